/**
 * With `{ type: "file" }` the import of an addon is its path, inside the executable or on disk. It is not
 * called `.node`, because Bun refuses that import when it runs from source.
 */
declare module "*.addon" {
  const path: string;
  // biome-ignore lint/style/noDefaultExport: Bun gives the path as the default export.
  export default path;
}
