export interface QedRecipe {
  readonly clusterBytes?: number
  readonly tableClusterCount?: number
  readonly virtualBytes: number
  readonly clusters?: ReadonlyMap<number, Buffer | 'zero'>
  readonly features?: bigint
  readonly compatible?: bigint
  readonly autoclear?: bigint
  readonly backingName?: string
  readonly patch?: (file: Buffer, places: QedPlaces) => void
}

export interface QedPlaces {
  readonly clusterBytes: number
  readonly l1: number
  readonly l2: readonly number[]
  readonly data: ReadonlyMap<number, number>
}

/** A QED file that QEMU takes, as long as no option says otherwise. Made by hand. */
export function buildQed(recipe: QedRecipe): Buffer {
  const clusterBytes = recipe.clusterBytes ?? 4096
  const tableBytes = (recipe.tableClusterCount ?? 2) * clusterBytes
  const perTable = tableBytes / 8
  const header = Buffer.alloc(clusterBytes)
  const l1 = Buffer.alloc(tableBytes)
  const pieces: Buffer[] = [header, l1]
  let end = clusterBytes + tableBytes
  const place = (bytes: Buffer): number => {
    pieces.push(bytes)
    end += bytes.length
    return end - bytes.length
  }
  const tables = new Map<number, { readonly offset: number; readonly table: Buffer }>()
  const data = new Map<number, number>()
  for (const [index, cluster] of recipe.clusters ?? []) {
    const l1Index = Math.floor(index / perTable)
    let l2 = tables.get(l1Index)
    if (l2 === undefined) {
      const table = Buffer.alloc(tableBytes)
      l2 = { table, offset: place(table) }
      tables.set(l1Index, l2)
      l1.writeBigUInt64LE(BigInt(l2.offset), l1Index * 8)
    }
    if (cluster === 'zero') l2.table.writeBigUInt64LE(1n, (index % perTable) * 8)
    else {
      const whole = Buffer.alloc(clusterBytes)
      cluster.copy(whole)
      data.set(index, place(whole))
      l2.table.writeBigUInt64LE(BigInt(end - clusterBytes), (index % perTable) * 8)
    }
  }
  header.write('QED\0', 0, 'latin1')
  header.writeUInt32LE(clusterBytes, 4)
  header.writeUInt32LE(recipe.tableClusterCount ?? 2, 8)
  header.writeUInt32LE(1, 12)
  header.writeBigUInt64LE((recipe.features ?? 0n) | (recipe.backingName === undefined ? 0n : 1n), 16)
  header.writeBigUInt64LE(recipe.compatible ?? 0n, 24)
  header.writeBigUInt64LE(recipe.autoclear ?? 0n, 32)
  header.writeBigUInt64LE(BigInt(clusterBytes), 40)
  header.writeBigUInt64LE(BigInt(recipe.virtualBytes), 48)
  if (recipe.backingName !== undefined) {
    header.writeUInt32LE(72, 56)
    header.writeUInt32LE(Buffer.byteLength(recipe.backingName), 60)
    header.write(recipe.backingName, 72)
  }
  const file = Buffer.concat(pieces)
  recipe.patch?.(file, {
    clusterBytes,
    l1: clusterBytes,
    l2: [...tables.values()].map(({ offset }) => offset),
    data,
  })
  return file
}
