const UNITS_MS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/**
 * Milliseconds of '90s', '30m', '1.5h' or '1h30m'; undefined unless that is some time. A number alone is none: whether it is of
 * seconds or of minutes, only who wrote it knows.
 */
export function findDuration(text: string): number | undefined {
  if (!/^(\d{1,9}(\.\d{1,3})?(s|min|m|h|d) ?)+$/i.test(`${text.trim()} `)) return undefined
  let durationMs = 0
  for (const [, number, unit] of text.toLowerCase().matchAll(/(\d+(?:\.\d+)?)(s|min|m|h|d)/g))
    durationMs += Number(number) * (UNITS_MS[unit ?? ''] ?? Number.NaN)
  return Number.isFinite(durationMs) && durationMs > 0 ? Math.round(durationMs) : undefined
}
