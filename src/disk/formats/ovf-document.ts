import { SaxesParser } from 'saxes'
import { refuseArchive } from './tar-refuse.ts'

/** An element as it was written, by its name without a namespace: those differ between versions and products. */
export interface OvfElement {
  readonly name: string
  /** By name without a namespace. */
  readonly attributes: ReadonlyMap<string, string>
  readonly children: readonly OvfElement[]
  /** Directly in it, trimmed. */
  readonly text: string
}

const DEPTH_MAX = 48
const ELEMENTS_MAX = 5000
const ATTRIBUTES_MAX = 64

interface Open {
  readonly name: string
  readonly attributes: Map<string, string>
  readonly children: OvfElement[]
  text: string
}

/** What the parser itself finds wrong, told from a bug of ours. */
class XmlProblem extends Error {}

/**
 * The whole description as a tree, bounded in depth and width. `bytes` are at most 1 MiB. No document type is read, so
 * there are no entities but XML's own five, and nothing that a parser would fetch. Throws 'archive'.
 */
export function parseOvfDocument(bytes: Buffer): OvfElement {
  const root: Open = { name: '', attributes: new Map(), children: [], text: '' }
  const open: Open[] = [root]
  let elementCount = 0
  let attributeCount = 0
  const parser = new SaxesParser({ xmlns: true, position: false })
  parser.on('error', (error) => {
    throw new XmlProblem('', { cause: error })
  })
  parser.on('xmldecl', ({ encoding }) => {
    if (encoding !== undefined && encoding.toLowerCase() !== 'utf-8') throw refuseDescription()
  })
  parser.on('doctype', () => {
    throw refuseArchive("has a description with a document type of its own, which no tool's has")
  })
  parser.on('opentagstart', () => {
    elementCount += 1
    attributeCount = 0
    if (elementCount > ELEMENTS_MAX || open.length > DEPTH_MAX) throw refuseDescription()
  })
  parser.on('attribute', () => {
    attributeCount += 1
    if (attributeCount > ATTRIBUTES_MAX) throw refuseDescription()
  })
  parser.on('opentag', (tag) => {
    const attributes = new Map<string, string>()
    for (const { prefix, local, value } of Object.values(tag.attributes)) {
      if (prefix === 'xmlns' || local === 'xmlns') continue
      // The same word twice in two namespaces: which of them counts would be anybody's guess.
      if (attributes.has(local) && attributes.get(local) !== value) throw refuseDescription()
      attributes.set(local, value)
    }
    open.push({ name: tag.local, attributes, children: [], text: '' })
  })
  const addText = (text: string) => {
    const element = open.at(-1)
    if (element !== undefined) element.text += text
  }
  parser.on('text', addText)
  parser.on('cdata', addText)
  parser.on('closetag', () => {
    const element = open.pop()
    const parent = open.at(-1)
    if (element !== undefined && parent !== undefined) {
      parent.children.push({ ...element, text: element.text.trim() })
    }
  })
  try {
    parser.write(decode(bytes)).close()
  } catch (error) {
    if (error instanceof XmlProblem) throw refuseDescription()
    throw error
  }
  const [document] = root.children
  if (document === undefined || root.children.length !== 1) throw refuseDescription()
  return document
}

function decode(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw refuseDescription()
  }
}

/** Children of a name, in their order. */
export function childrenOf(element: OvfElement, name: string): OvfElement[] {
  return element.children.filter((child) => child.name === name)
}

/** The only child of a name, or none; two are refused. */
export function onlyChild(element: OvfElement, name: string): OvfElement | undefined {
  const [child, second] = childrenOf(element, name)
  if (second !== undefined) throw refuseDescription()
  return child
}

/** The element and all in it, from the outside in. */
export function* allIn(element: OvfElement): Generator<OvfElement> {
  yield element
  for (const child of element.children) yield* allIn(child)
}

export function refuseDescription() {
  return refuseArchive('has a description (.ovf) that cannot be understood')
}
