import { type BigIntStats, fstat } from 'node:fs'
import { type InspectedDisk, type Inspection, refuseFile } from '../disk/formats/contract.ts'
import { type MachineConfig, PLAIN_CONFIG } from '../image/config.ts'
import { Fault } from '../image/fault.ts'
import type { RegionId } from '../image/ids.ts'
import type { ImageDisk, OsType } from '../image/image.ts'
import type { ImportFacts } from '../image/imported.ts'
import { refuseChanged } from './file-identity.ts'
import { osOf } from './image-row.ts'
import { chargeMaking, refuseUnreadable } from './import-charge.ts'
import { checkpointOf, type ImportInput, importDomain, unpackedPlace } from './import-sources.ts'
import type { TaskParts } from './parts.ts'
import { imageRef } from './refs.ts'
import type { StepContext } from './runner.ts'
import type { BundleFacts, FilePlace, OpenFile, SourceDisk, WrittenImage } from './store-jobs.ts'

/** What the image's row learns when its file was read. */
export interface Learned {
  readonly disks: readonly ImageDisk[]
  readonly config: MachineConfig
  readonly osType: OsType
  readonly osName: string
  readonly imported: ImportFacts
}

type Context = StepContext<ImportInput>
type Read = { readonly made: WrittenImage; readonly learned: Learned }

/**
 * The file as it came, or as it was unpacked, becomes an image: inspected, and what was inspected is what is read. Faults as
 * of `StoreJobs.openFile`, `FormatReader.open`, `StoreJobs.write`; 'conflict' 'file' for a file of the import folder that was
 * written to meanwhile.
 */
export async function readFile(parts: TaskParts, context: Context): Promise<Read> {
  const { input, signal } = context
  const place = unpackedPlace(parts, context)
  const options = { declared: input.declared, virtualBytesMax: parts.intake.diskBytesMax }
  const file = await parts.jobs.openFile(place, options, signal)
  /** Of a file that was written to while it was read nobody knows what the image holds. */
  const unchanged = async (read: Read): Promise<Read> => {
    if (file.descriptor !== undefined) {
      refuseChanged(checkpointOf(context).identity, await statusOf(file.descriptor))
    }
    return read
  }
  try {
    const { inspection } = file
    if (inspection.is === 'packed') {
      throw refuseFile('packing', 'The file is packed twice. Unpack it once, and import what comes out.')
    }
    if (inspection.is === 'bundle') return await unchanged(await takeBundle(parts, context, place))
    // Whoever names a signer expects a bundle: what is none any more is damaged, and no disk.
    if (input.signer !== undefined) {
      throw refuseFile(
        'other-format',
        'A signer was given, and the file is no bundle. It was damaged, or is another file.',
      )
    }
    return await unchanged(await readDisks(parts, context, place, file, inspection))
  } finally {
    await closeReaders(parts, context.id)
    await file.close()
  }
}

const statusOf = (descriptor: number) =>
  new Promise<BigIntStats>((resolve, reject) => {
    fstat(descriptor, { bigint: true }, (error, status) => (error ? reject(error) : resolve(status)))
  })

/** What `readFile` may have left open. */
export async function closeReaders({ intake }: TaskParts, id: string): Promise<void> {
  await intake.rawFiles.close(id)
  await intake.reader.close(id)
}

async function readDisks(
  parts: TaskParts,
  context: Context,
  place: FilePlace,
  file: OpenFile,
  inspection: Extract<Inspection, { is: 'disk' | 'archive' }>,
): Promise<Read> {
  const { jobs, catalog } = parts
  const { input, id, row, signal } = context
  const disks = inspection.is === 'disk' ? [inspection.disk] : inspection.disks
  const sources = await openDisks(parts, context, file, disks)
  const learned = await learn(parts, context, inspection, sources)
  await showLearned(parts, input, learned)
  const regionId = row.regionId as RegionId
  const domain = importDomain(context)
  const facts = {
    config: learned.config,
    os: osOf(learned.osType, learned.osName),
    parent: undefined,
    ref: await imageRef(catalog.rows, input.imageId, null),
  }
  const bus = learned.disks[0]?.bus ?? 'virtio-blk'
  if (place.is === 'blob' && disks.length === 1 && disks[0]?.format === 'raw') {
    const job = { ...facts, regionId, domain, map: place.map, bus, sessionId: place.sessionId }
    return { made: await jobs.takeBlob(job, signal), learned }
  }
  const plans = await jobs.measure({ regionId, domain, disks: sources }, signal)
  const measuredBytes = plans.reduce((sum, { dataBytes }) => sum + dataBytes, 0)
  await chargeMaking(parts, context, measuredBytes)
  await refuseUnreadable(parts, context, measuredBytes)
  const fetchedBytes = checkpointOf(context).received?.sizeBytes ?? 0
  const [made] = await jobs.write(
    {
      ...{ regionId, domain, sessionId: id, disks: sources, consistency: 'crash' },
      images: [{ ...facts, disks: sources.map((_source, index) => index) }],
    },
    ({ doneBytes, totalBytes, movedBytes }) =>
      context.progress({
        doneBytes: fetchedBytes + doneBytes,
        totalBytes: fetchedBytes + totalBytes,
        movedBytes,
      }),
    signal,
  )
  if (made === undefined) throw new Error('one image was asked for')
  return { made, learned }
}

/** The disks of the file as raw ones. QEMU's tools see no file but what the inspection accepted, and only what we do not read ourselves. */
async function openDisks(
  { intake }: TaskParts,
  { id, signal, input }: Context,
  file: OpenFile,
  disks: readonly InspectedDisk[],
): Promise<readonly SourceDisk[]> {
  const bus = input.said.bus ?? 'virtio-blk'
  const { descriptor } = file
  const [first] = disks
  if (descriptor !== undefined && first?.format === 'raw' && disks.length === 1) {
    // What an earlier process had opened may be another file of that name.
    await intake.rawFiles.close(id)
    const opened = await intake.rawFiles.open(`/proc/${process.pid}/fd/${descriptor}`, id, signal)
    return [{ ...opened, mapName: opened.exportName, bus, rawDescriptor: descriptor }]
  }
  const { socketPath } = await intake.reader.prepare(id)
  await file.serve(socketPath)
  const plain = ({ virtualBytes }: InspectedDisk, index: number) => ({
    ...{ socketPath, exportName: String(index), sizeBytes: virtualBytes },
  })
  const foreign = disks.flatMap(({ format, virtualBytes: sizeBytes }, index) =>
    file.isPlain[index] === true ? [] : [{ exportName: String(index), format, sizeBytes }],
  )
  const opened = foreign.length === 0 ? [] : [...(await intake.reader.open(id, foreign, signal))]
  return disks.map((disk, index) => {
    const source = file.isPlain[index] === true ? plain(disk, index) : opened.shift()
    if (source === undefined) throw new Error('each disk that is not plain was opened')
    return { ...source, mapName: source.exportName, bus }
  })
}

async function learn(
  { cleaner }: TaskParts,
  context: Context,
  inspection: Extract<Inspection, { is: 'disk' | 'archive' }>,
  sources: readonly SourceDisk[],
): Promise<Learned> {
  const { said } = context.input
  const found = await cleaner.detect(sources, context.signal)
  const told = inspection.is === 'archive' ? inspection.machine : undefined
  const formats = inspection.is === 'archive' ? inspection.disks : [inspection.disk]
  const { packing, sha256 } = checkpointOf(context)
  const format = formats.map(({ format, variant }) => `${format} (${variant})`).join(', ')
  return {
    disks: sources.map(({ sizeBytes, bus }, index) => ({ index, sizeBytes, bus })),
    config: {
      ...PLAIN_CONFIG,
      firmware: said.firmware ?? told?.firmware ?? found.firmware ?? PLAIN_CONFIG.firmware,
      cpuCount: told?.cpuCount ?? null,
      memoryBytes: told?.memoryBytes ?? null,
    },
    osType: said.osType ?? found.osType ?? 'Linux',
    osName: said.osName ?? found.osName ?? told?.osName ?? '',
    imported: {
      format: [inspection.is === 'archive' ? `ova: ${format}` : format, packing].filter(Boolean).join(', '),
      fileBytes: cameBytes(context),
      sha256,
      osType: found.osType,
      osName: found.osName ?? told?.osName,
      firmware: found.firmware ?? told?.firmware,
    },
  }
}

/** Bytes of the file as it came, whatever was unpacked of it. */
function cameBytes(context: Context): number {
  const { received, fileBytes } = checkpointOf(context)
  const { from } = context.input
  return from.is === 'upload' ? from.map.sizeBytes : (received?.sizeBytes ?? fileBytes ?? 0)
}

/** So that the image's owner sees while it is made what it is going to be. */
async function showLearned(
  { catalog, clock }: TaskParts,
  { imageId }: ImportInput,
  learned: Learned,
): Promise<void> {
  const { disks, config, osType, osName, imported } = learned
  const result = await catalog.rows
    .updateTable('image')
    .set({
      ...{ disks: JSON.stringify(disks), config: JSON.stringify(config), osType, osName },
      ...{ imported: JSON.stringify(imported), updatedAtMs: clock() },
    })
    .where('id', '=', imageId)
    .where('state', '=', 'creating')
    .executeTakeFirst()
  if (result.numUpdatedRows !== 1n) {
    throw new Fault('conflict', 'The image was deleted before it was read.', { subject: 'image' })
  }
}

async function takeBundle(parts: TaskParts, context: Context, place: FilePlace): Promise<Read> {
  const { jobs, catalog, intake } = parts
  const { input, id, row, signal } = context
  const signers = [...intake.signers, ...(input.signer === undefined ? [] : [input.signer])]
  const bundle = await jobs.readBundle(place, signers, signal)
  const learned = learnFrom(context, bundle)
  await showLearned(parts, input, learned)
  const dataBytes = bundle.disks.reduce((sum, disk) => sum + disk.dataBytes, 0)
  await chargeMaking(parts, context, dataBytes)
  await refuseUnreadable(parts, context, bundle.storedBytes)
  const regionId = row.regionId as RegionId
  const ref = await imageRef(catalog.rows, input.imageId, null)
  const moved = await jobs.pullBundle(
    { place, signers, regionId, sessionId: id, ref },
    context.progress,
    signal,
  )
  const diskDataBytes = bundle.disks.map((disk) => disk.dataBytes)
  const read = { diskDataBytes, dataBytes, diskReadBytes: bundle.disks.map(() => 0) }
  return { made: { digest: bundle.digest, ...read, ...moved }, learned }
}

function learnFrom(context: Context, bundle: BundleFacts): Learned {
  const { said } = context.input
  return {
    disks: bundle.disks.map(({ sizeBytes, bus }, index) => ({ index, sizeBytes, bus })),
    config: bundle.config,
    osType: said.osType ?? (bundle.os.type === 'windows' ? 'Windows' : 'Linux'),
    osName: said.osName ?? bundle.os.name,
    imported: {
      ...{ format: 'bundle', fileBytes: cameBytes(context) },
      sha256: checkpointOf(context).sha256,
      osType: bundle.os.type === 'windows' ? 'Windows' : 'Linux',
      osName: bundle.os.name === '' ? undefined : bundle.os.name,
      firmware: bundle.config.firmware,
    },
  }
}
