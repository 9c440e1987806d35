import type { Fault } from '../image/fault.ts'
import { describe, nearest, refused, type Tree } from './file.ts'

/** Where settings of regions are read from: the file for messages, its folder for relative paths. */
export interface RegionSource {
  readonly path: string
  readonly folder: string
  readonly data: string
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** The map at `key`. Throws Fault 'invalid' for anything else and for a member that is not one of `known`. */
export function members(
  source: RegionSource,
  key: string,
  value: unknown,
  takes: string,
  known: readonly string[],
): Tree {
  if (!(value instanceof Map)) throw refusal(source, key, takes, value)
  const stranger = [...value.keys()].find((name) => !known.includes(name))
  if (stranger === undefined) return value
  throw refused(
    `${key}.${stranger}`,
    `There is no setting '${key}.${stranger}' in ${source.path}. Did you mean '${nearest(String(stranger), known)}'?`,
  )
}

export function refusal(source: RegionSource, key: string, takes: string, value: unknown): Fault {
  return refused(key, `The setting ${key} in ${source.path} takes ${takes}, not ${describe(value)}.`)
}
