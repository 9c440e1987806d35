/** Edits (insert, delete, replace) that turn `left` into `right`. */
function distance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index)
  for (let i = 1; i <= left.length; i++) {
    const next = [i]
    for (let j = 1; j <= right.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (left[i - 1] === right[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[right.length] ?? 0
}

/** The known name that `text` was probably meant to be, or undefined when none is near. */
export function findNearest(text: string, known: readonly string[]): string | undefined {
  // Longer texts are no slip of the finger, and would make the table large.
  if (text.length > 64) return undefined
  let best: { name: string; edits: number } | undefined
  for (const name of known) {
    const edits = distance(text.toLowerCase(), name.toLowerCase())
    if (best === undefined || edits < best.edits) best = { name, edits }
  }
  return best !== undefined && best.edits <= Math.max(2, Math.floor(best.name.length / 3))
    ? best.name
    : undefined
}
