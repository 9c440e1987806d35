/**
 * Parameters by the parts of their dotted names: `Disks.0.Size` is the text at Disks → 0 → Size. The nested and
 * the flat JSON form, a form and a query all end as the same tree.
 */
export interface Branch {
  readonly text: string | undefined
  readonly children: ReadonlyMap<string, Branch>
}

interface GrowingBranch {
  text: string | undefined
  readonly children: Map<string, GrowingBranch>
}

const DEPTH_MAX = 16

/** Names of more than 16 parts are left out: no documented parameter has them, and unknown ones are ignored. */
export function growTree(flat: ReadonlyMap<string, string>): Branch {
  const root: GrowingBranch = { text: undefined, children: new Map() }
  for (const [name, text] of flat) {
    const parts = name.split('.', DEPTH_MAX + 1)
    if (parts.length > DEPTH_MAX) continue
    let branch = root
    for (const part of parts) {
      let child = branch.children.get(part)
      if (child === undefined) {
        child = { text: undefined, children: new Map() }
        branch.children.set(part, child)
      }
      branch = child
    }
    branch.text = text
  }
  return root
}

/** Nothing in it but empty texts: clients write an unset parameter as '' or null, or leave it out. */
export function isAbsent(branch: Branch | undefined): branch is undefined {
  if (branch === undefined) return true
  if (branch.text !== undefined && branch.text !== '') return false
  return [...branch.children.values()].every(isAbsent)
}
