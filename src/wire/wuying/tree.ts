import { Fault } from '../../image/fault.ts'

/** A parameter and those below it: `Tag.1.Key` is the child `Key` of the child `1` of `Tag`. */
export interface ParameterNode {
  readonly value: string | undefined
  readonly children: ReadonlyMap<string, ParameterNode>
}

interface GrowingNode {
  value: string | undefined
  readonly children: Map<string, GrowingNode>
}

/** No documented parameter is deeper than `BundleModels.1.EndUserIds.1`; deeper names are unknown ones, left out. */
const DEPTH_MAX = 4

/** Undoes the flattening of wuying.md §1.4. */
export function growTree(parameters: Iterable<readonly [string, string]>): ParameterNode {
  const root: GrowingNode = { value: undefined, children: new Map() }
  for (const [name, value] of parameters) {
    const path = name.split('.', DEPTH_MAX + 1)
    if (path.length > DEPTH_MAX) continue
    let node = root
    for (const step of path) {
      const next: GrowingNode = node.children.get(step) ?? { value: undefined, children: new Map() }
      node.children.set(step, next)
      node = next
    }
    node.value = value
  }
  return root
}

/**
 * The tree of a parameter that is sent as one JSON object. Throws Fault 'invalid' with `name` as its field unless the
 * text is an object of texts, numbers and booleans.
 */
export function treeOfJson(text: string, name: string): ParameterNode {
  const refuse = (why: string, cause?: unknown): Fault => new Fault('invalid', why, { field: name, cause })
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    throw refuse('It is not JSON. Send one JSON object as text.', cause)
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw refuse('Send one JSON object as text.')
  const children = new Map<string, ParameterNode>()
  for (const [key, value] of Object.entries(parsed)) {
    if (value === null) continue
    if (typeof value === 'object') throw refuse(`'${key.slice(0, 40)}' takes a text, a number or a boolean.`)
    children.set(key, { value: String(value), children: new Map() })
  }
  return { value: undefined, children }
}

/** An optional scalar that is sent empty counts as not sent. */
export function isAbsent(node: ParameterNode | undefined): boolean {
  return node === undefined || ((node.value === undefined || node.value === '') && node.children.size === 0)
}
