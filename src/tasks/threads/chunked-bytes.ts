/** Bytes of the chunks that these rising runs touch. */
export function chunkedBytes(
  runs: readonly { readonly offset: number; readonly lengthBytes: number }[],
  sizeBytes: number,
  chunkBytes: number,
): number {
  let bytes = 0
  let counted = 0
  for (const { offset, lengthBytes } of runs) {
    const start = Math.max(counted, Math.floor(offset / chunkBytes) * chunkBytes)
    const end = Math.min(sizeBytes, Math.ceil((offset + lengthBytes) / chunkBytes) * chunkBytes)
    if (end <= start) continue
    bytes += end - start
    counted = end
  }
  return bytes
}
