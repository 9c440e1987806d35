const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** '0 B', '17 MiB', '1.4 GiB': three digits at most, so that columns stay narrow. */
export function formatBytes(sizeBytes: number): string {
  let value = sizeBytes
  let unit = 0
  // 1023.6 would be written 1024, which is one of the next unit.
  while (Math.round(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  const digits = unit === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** '8 s', '2 min 05 s', '3 h 20 min'. */
export function formatDuration(durationMs: number): string {
  const seconds = Math.max(0, Math.round(durationMs / 1000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, '0')} s`
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`
}

/** '12 ms', from a second on as `formatDuration`. */
export function formatMilliseconds(durationMs: number): string {
  return durationMs < 1000 ? `${Math.ceil(durationMs)} ms` : formatDuration(durationMs)
}

/** '2026-08-01 12:00:00' in UTC, as the server's log has it. */
export function formatTime(timeMs: number | null): string {
  return timeMs === null ? '' : new Date(timeMs).toISOString().slice(0, 19).replace('T', ' ')
}

/**
 * Cells that text takes on a terminal: two for East Asian wide characters and emoji, none for combining marks.
 * Source: Unicode TR 11, the ranges that names of regions and machines really use.
 */
export function cellWidth(text: string): number {
  let width = 0
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0
    if (/\p{M}|\u200d/u.test(character)) continue
    const isWide =
      (code >= 0x1100 && code <= 0x115f) ||
      (code >= 0x2e80 && code <= 0x303e) ||
      (code >= 0x3041 && code <= 0xa4cf) ||
      (code >= 0xac00 && code <= 0xd7a3) ||
      (code >= 0xf900 && code <= 0xfaff) ||
      (code >= 0xfe30 && code <= 0xfe6f) ||
      (code >= 0xff00 && code <= 0xff60) ||
      (code >= 0xffe0 && code <= 0xffe6) ||
      (code >= 0x1f300 && code <= 0x1faff) ||
      (code >= 0x20000 && code <= 0x3fffd)
    width += isWide ? 2 : 1
  }
  return width
}

/**
 * Text from elsewhere, safe to print: a name or a reason must not move the cursor or recolour the terminal, so
 * control characters become '?'.
 */
export function printable(text: string): string {
  return text.replace(/\p{Cc}|[\u202a-\u202e\u2066-\u2069]/gu, '?')
}
