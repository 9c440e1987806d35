const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1024,
  kib: 1024,
  kb: 1000,
  m: 1024 ** 2,
  mib: 1024 ** 2,
  mb: 1000 ** 2,
  g: 1024 ** 3,
  gib: 1024 ** 3,
  gb: 1000 ** 3,
  t: 1024 ** 4,
  tib: 1024 ** 4,
  tb: 1000 ** 4,
}

/** Bytes of '512MiB', '20G' (GiB), '1.5 TB' or '4096'; undefined unless that is a whole, positive number of bytes. */
export function findSize(text: string): number | undefined {
  const match = /^(\d{1,15}(?:\.\d{1,6})?) ?([a-z]*)$/i.exec(text.trim())
  const unit = UNITS[match?.[2]?.toLowerCase() ?? 'none']
  if (match?.[1] === undefined || unit === undefined) return undefined
  const sizeBytes = Number(match[1]) * unit
  return Number.isSafeInteger(sizeBytes) && sizeBytes > 0 ? sizeBytes : undefined
}
