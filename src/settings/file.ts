import assert from 'node:assert/strict'
import { resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { Fault } from '../image/fault.ts'
import { SETTINGS } from './table.ts'

/** A YAML mapping. Kept as a Map so that no key can touch an object's prototype. */
export type Tree = ReadonlyMap<unknown, unknown>

/**
 * Reads a settings file into a tree that holds known settings only; their values are not looked at yet.
 * Throws Fault 'invalid' naming the place in the file.
 */
export function parseFile({ path, text }: { readonly path: string; readonly text: string }): Tree {
  const document = parseDocument(text, { prettyErrors: true, stringKeys: true })
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined) throw refused('file', `${path} is not good YAML: ${problem.message.trim()}`)
  const tree = toTree(() => document.toJS({ mapAsMap: true }), path)
  if (tree === null) return new Map()
  if (!(tree instanceof Map)) throw refused('file', `${path} takes a map of settings, not ${describe(tree)}.`)
  const sections = new Set(SETTINGS.flatMap(({ key }) => (key.includes('.') ? [key.split('.')[0]] : [])))
  for (const [name, value] of tree) {
    if (!sections.has(name)) checkKnown(path, String(name))
    else if (name === 'accessKey' || value instanceof Map) {
      for (const inner of value instanceof Map ? value.keys() : ['id']) checkKnown(path, `${name}.${inner}`)
    } else throw refused(name, `The setting ${name} in ${path} takes a map, not ${describe(value)}.`)
  }
  return tree
}

/** An alias without its anchor, or too many of them, shows only now. */
function toTree(resolveAliases: () => unknown, path: string): unknown {
  try {
    return resolveAliases()
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause)
    throw refused('file', `${path} is not good YAML: ${problem}`)
  }
}

function checkKnown(path: string, key: string): void {
  const setting = SETTINGS.find((each) => each.key === key)
  if (setting?.isInFile) return
  if (key.startsWith('accessKey.')) {
    throw refused(
      key,
      `The access key is not read from ${path}: files get copied and committed. Set CALOTYPE_ACCESS_KEY_ID and CALOTYPE_ACCESS_KEY_SECRET in the environment, and take it out of the file.`,
    )
  }
  const known = SETTINGS.filter(({ isInFile }) => isInFile).map((each) => each.key)
  throw refused(key, `There is no setting '${key}' in ${path}. Did you mean '${nearest(key, known)}'?`)
}

/** An absolute path. Only a shell knows what ~ means: here it would make a folder of that name. */
export function parseDirectory(value: unknown, folder: string): string | undefined {
  return typeof value !== 'string' || /^$|^~|\0/.test(value) ? undefined : resolve(folder, value)
}

/** The refusal of a setting, or of the whole file. */
export function refused(field: string, message: string): Fault {
  return new Fault('invalid', message, { field })
}

/** A value as an error message may show it. */
export function describe(value: unknown): string {
  if (value === undefined || value === null) return 'nothing'
  if (value instanceof Map) return value.size === 0 ? 'an empty map' : 'a map'
  if (Array.isArray(value))
    return value.length === 0 ? 'an empty list' : `the list ${clip(JSON.stringify(value))}`
  return typeof value === 'string' ? `'${clip(value)}'` : String(value)
}

function clip(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

/** The known name with the fewest edits (insert, drop, replace a letter) to the one given; case and dots are free. */
export function nearest(given: string, known: readonly string[]): string {
  const plain = (name: string) =>
    name
      .toLowerCase()
      .replace(/[^a-z0-9]/g, '')
      .slice(0, 64)
  const edits = (source: string, target: string): number => {
    let costs = Array.from({ length: target.length + 1 }, (_, index) => index)
    for (const [row, letter] of [...source].entries()) {
      const next = [row + 1]
      for (const [column, other] of [...target].entries()) {
        const replaced = (costs[column] ?? 0) + (letter === other ? 0 : 1)
        next.push(Math.min(replaced, (costs[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1))
      }
      costs = next
    }
    return costs[target.length] ?? 0
  }
  const ranked = known.map((name) => ({ name, count: edits(plain(given), plain(name)) }))
  const best = ranked.toSorted((one, other) => one.count - other.count)[0]
  assert(best !== undefined, 'there is at least one known name')
  return best.name
}
