/** With `{ type: "file" }` the import of an addon is its path, inside the executable or on disk. */
declare module "*.node" {
  const path: string;
  // biome-ignore lint/style/noDefaultExport: Bun gives the path as the default export.
  export default path;
}
