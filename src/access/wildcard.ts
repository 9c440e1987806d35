/**
 * Whether all of `text` fits `pattern`, in which `*` stands for any run of characters (also none) and `?` for
 * exactly one; every other character stands for itself. Takes at most pattern × text steps, whatever the pattern:
 * only the last `*` is ever tried again, because an earlier one that reached it can do no better by growing.
 */
export function matchesWildcard(pattern: string, text: string): boolean {
  const wanted = [...pattern]
  const given = [...text]
  let wantedIndex = 0
  let givenIndex = 0
  let starIndex = -1
  let resumeIndex = 0
  while (givenIndex < given.length) {
    const symbol = wanted[wantedIndex]
    // The star comes first: a '*' in the text must not be taken for the pattern's own.
    if (symbol === '*') {
      starIndex = wantedIndex++
      resumeIndex = givenIndex
    } else if (symbol === '?' || (symbol !== undefined && symbol === given[givenIndex])) {
      wantedIndex++
      givenIndex++
    } else if (starIndex >= 0) {
      wantedIndex = starIndex + 1
      givenIndex = ++resumeIndex
    } else {
      return false
    }
  }
  while (wanted[wantedIndex] === '*') wantedIndex++
  return wantedIndex === wanted.length
}
