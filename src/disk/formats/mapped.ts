import type { ByteSource, InspectedDisk } from './contract.ts'
import { DiskMap, fileChanged, type UnitTable } from './disk-map.ts'
import { openVdiTable } from './vdi-map.ts'
import { openVhdTable } from './vhd-map.ts'
import { openVhdxTable } from './vhdx-map.ts'
import { openVmdkTable } from './vmdk-map.ts'

/**
 * The map of a disk that an inspection of this very `source`, whose bytes are the disk's part of the file alone, accepted:
 * for formats that keep plain bytes in one level of tables. Undefined for raw, which needs none, and for what is packed or
 * wants more of its reader (streamOptimized VMDK, qcow2, QED). Memory stays under 8 MiB. Throws Fault 'conflict' 'file', or
 * that of an inspection, where the file is not what was inspected any more, and what the source throws.
 */
export async function mapDisk(
  source: ByteSource,
  disk: InspectedDisk,
  signal?: AbortSignal,
): Promise<DiskMap | undefined> {
  const table = await openTable(source, disk, signal)
  if (table === undefined) return undefined
  if (table.sizeBytes !== disk.virtualBytes) throw fileChanged()
  return new DiskMap(table)
}

async function openTable(
  source: ByteSource,
  { format, variant }: InspectedDisk,
  signal?: AbortSignal,
): Promise<UnitTable | undefined> {
  switch (format) {
    case 'vmdk':
      return variant === 'monolithicSparse' ? await openVmdkTable(source, signal) : undefined
    case 'vhdx':
      return await openVhdxTable(source, signal)
    case 'vhd':
      return await openVhdTable(source, signal)
    case 'vdi':
      return await openVdiTable(source, signal)
    case 'raw':
    case 'qcow2':
    case 'qed':
      return undefined
    default:
      return format satisfies never
  }
}
