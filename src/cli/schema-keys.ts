/**
 * Reads the keys of a configuration out of its zod schema.
 *
 * The schema belongs to the role; environment names, "did you mean" hints and the list of what was
 * set where all follow from it, so that a key is declared once.
 */
import type { z } from "zod";

export type Schema = z.core.$ZodType;

/** Returns the keys an object may have at this place, or `undefined` where any key may stand. */
export function keysOf(schema: Schema): readonly string[] | undefined {
  const objects = shapesOf(schema);
  return objects.length === 0 ? undefined : [...new Set(objects.flatMap((it) => Object.keys(it)))];
}

/** Returns the schemas of `key` inside `schema`: several when a union leaves it open. */
export function schemasAt(schema: Schema, key: string | number): readonly Schema[] {
  return alternatives(schema).flatMap((it) => {
    const { shape, element, valueType } = nodeOf(it);
    if (shape !== undefined) return shape[key] === undefined ? [] : [shape[key]];
    return [element ?? valueType].filter((child) => child !== undefined);
  });
}

/** Returns the paths of all keys that hold no object of fixed keys themselves: `metrics.listen`. */
export function leafPaths(schema: Schema, prefix = ""): string[] {
  return (keysOf(schema) ?? []).flatMap((key) => {
    const path = prefix === "" ? key : `${prefix}.${key}`;
    const nested = schemasAt(schema, key).flatMap((child) => leafPaths(child, path));
    return nested.length === 0 ? [path] : [...new Set(nested)];
  });
}

/** Returns the schema at a path of {@link leafPaths}. */
export function schemaAtPath(schema: Schema, path: string): Schema | undefined {
  let found: readonly Schema[] = [schema];
  for (const key of path.split(".")) found = found.flatMap((it) => schemasAt(it, key));
  return found[0];
}

export interface UnknownKey {
  /** Where the object stands that has the key. */
  readonly path: readonly (string | number)[];
  readonly key: string;
  readonly known: readonly string[];
}

/** Returns the keys of `value` that the schema does not know, outermost first. */
export function unknownKeys(
  schema: Schema,
  value: unknown,
  path: readonly (string | number)[] = [],
): UnknownKey[] {
  if (Array.isArray(value)) {
    return value.flatMap((item, index) =>
      schemasAt(schema, index)
        .slice(0, 1)
        .flatMap((child) => unknownKeys(child, item, [...path, index])),
    );
  }
  if (typeof value !== "object" || value === null) return [];

  const known = keysOf(schema);
  return Object.entries(value).flatMap(([key, item]): UnknownKey[] => {
    if (known !== undefined && !known.includes(key)) return [{ path, key, known }];
    const [child] = schemasAt(schema, key);
    return child === undefined ? [] : unknownKeys(child, item, [...path, key]);
  });
}

/** The parts of zod's definitions that carry other schemas. */
interface Node {
  readonly type: string;
  readonly shape?: Readonly<Record<string, Schema>>;
  readonly element?: Schema;
  readonly valueType?: Schema;
  readonly innerType?: Schema;
  readonly options?: readonly Schema[];
  readonly in?: Schema;
  readonly out?: Schema;
}

function nodeOf(schema: Schema): Node {
  return schema._zod.def as unknown as Node;
}

/** Returns what stands behind defaults, optionality, pipes and unions. */
function alternatives(schema: Schema): readonly Schema[] {
  const node = nodeOf(schema);
  if (node.options !== undefined) return node.options.flatMap(alternatives);
  if (node.innerType !== undefined) return alternatives(node.innerType);
  if (node.type !== "pipe" || node.in === undefined || node.out === undefined) return [schema];

  // What goes into a pipe is what is written down, unless a function takes it whatever it is.
  return alternatives(nodeOf(node.in).type === "transform" ? node.out : node.in);
}

function shapesOf(schema: Schema): readonly Readonly<Record<string, Schema>>[] {
  return alternatives(schema)
    .map((it) => nodeOf(it).shape)
    .filter((it) => it !== undefined);
}
