import { link } from 'node:fs/promises'
import { join } from 'node:path'
import { EXPORT_FORMATS } from '../src/disk/layouts/contract.ts'
import {
  type ImportTarget,
  ourExport,
  ourExportName,
  ourImport,
  ourImportName,
  peerExport,
  peerExportName,
  peerImport,
  peerImportName,
} from './tools/formats-contenders.ts'
import { type FormatFile, makeFiles, whyNoFiles } from './tools/formats-files.ts'
import { digestOf, ensureKeptDisk, keep } from './tools/kept-disk.ts'
import { fasterThan } from './tools/marks.ts'
import { compare, withScratch } from './tools/measure.ts'
import { calotypeCapture } from './tools/peers.ts'
import type { Bench, Findings } from './tools/report.ts'

// One disk in the formats of others, brought in from the import folder of a server, and handed out as files again, beside
// `qemu-img convert` of the same file. The marks are beside the convert that also packs, or unpacks, with zstd, as our
// store does; the plain one is shown beside it.

const TIMES_MIN = 0.9
const TARGETS: readonly ImportTarget[] = ['zstd qcow2', 'raw']

type Say = (line: string) => void

async function importOf(imports: string, files: readonly FormatFile[], say: Say): Promise<Findings> {
  let dataBytes: number | undefined
  const parts: Findings[] = []
  for (const file of files) {
    const ours = ourImport(imports, file, () => dataBytes)
    const peers = TARGETS.map((target) => peerImport(imports, file, target))
    const rows = await compare([ours, ...peers], say)
    dataBytes ??= rows[0]?.dataBytes as number | undefined
    const race = { what: 'import', rows, ours: ours.name }
    parts.push({
      rows,
      races: [{ ours: ourImportName(file), peers: peers.map(({ name }) => name) }],
      marks: fasterThan(race, peerImportName(file, 'zstd qcow2'), TIMES_MIN),
    })
  }
  return joined(parts)
}

async function exportOf(scratch: string, imports: string, disk: string, say: Say): Promise<Findings> {
  const kept = await keep(scratch, calotypeCapture('calotype', disk), say)
  if (kept === undefined) throw new Error('we are always installed')
  const packed = { name: 'zstd qcow2', driver: 'qcow2', path: join(imports, 'zstd.qcow2') }
  const plain = { name: 'raw', driver: 'raw', path: disk }
  const parts: Findings[] = []
  for (const format of EXPORT_FORMATS) {
    const peers = [packed, plain].map((source) => peerExport(source, format))
    const rows = await compare([ourExport(kept.folder, digestOf(kept), format, disk), ...peers], say)
    const race = { what: 'export', rows, ours: ourExportName(format) }
    parts.push({
      rows,
      races: [{ ours: ourExportName(format), peers: peers.map(({ name }) => name) }],
      marks: fasterThan(race, peerExportName(packed.name, format), TIMES_MIN),
    })
  }
  return joined(parts)
}

const joined = (parts: readonly Findings[]): Findings => ({
  rows: parts.flatMap(({ rows }) => rows),
  races: parts.flatMap(({ races }) => races),
  marks: parts.flatMap(({ marks }) => marks),
})

export const run: Bench = async (say) => {
  const reason = whyNoFiles()
  if (reason !== undefined) return { rows: [{ name: 'calotype', reason }], races: [], marks: [] }
  const disk = await ensureKeptDisk(say)
  return withScratch(async (imports) => {
    // No link of the other kind: the import folder is not left through one.
    await link(disk, join(imports, 'disk.raw'))
    const raw: FormatFile = { name: 'raw', fileName: 'disk.raw', driver: 'raw' }
    const files = [raw, ...(await makeFiles(imports, disk, say))]
    const brought = await importOf(imports, files, say)
    const handed = await withScratch((scratch) => exportOf(scratch, imports, disk, say))
    return joined([brought, handed])
  })
}
