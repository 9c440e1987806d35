const OLD_UNITS = new Map([
  ['kilobytes', 2 ** 10],
  ['megabytes', 2 ** 20],
  ['gigabytes', 2 ** 30],
])

/** Bytes of a programmatic unit ('byte', 'byte * 2^30') or of one from before those ('MegaBytes'). Source: DMTF DSP0004, annex C. */
export function parseUnit(text: string): number | undefined {
  const unit = text.replaceAll(/\s/g, '').toLowerCase()
  const old = OLD_UNITS.get(unit)
  if (old !== undefined) return old
  const [whole, base, exponent] = /^bytes?(?:\*(2|10)\^([0-9]{1,2}))?$/.exec(unit) ?? []
  if (whole === undefined) return undefined
  if (base === undefined) return 1
  const bytes = Number(base) ** Number(exponent)
  return Number.isSafeInteger(bytes) ? bytes : undefined
}
