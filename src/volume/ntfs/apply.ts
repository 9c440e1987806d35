import assert from 'node:assert'
import type { Edit } from '../contract.ts'
import { damaged, refuse } from '../refuse.ts'
import { parseHive } from '../registry/hive.ts'
import { eachStretch } from './attributes.ts'
import { planRemoval } from './mark.ts'
import { ATTRIBUTE, findAttribute, type Ntfs, type NtfsFile, type Piece } from './model.ts'
import type { NtfsReader } from './reader.ts'
import { readStream } from './reader.ts'
import { dropPieces, rawOf, setEmpty } from './records.ts'
import { emptySizes } from './sizes.ts'
import { sweep } from './sweep.ts'

const HIVE_BYTES_MAX = 256 * 1024 * 1024

type Change =
  | { readonly is: 'blank'; readonly record: number; readonly keepBytes: number }
  | { readonly is: 'registry'; readonly record: number; readonly keys: readonly (readonly string[])[] }
  | { readonly is: 'empty'; readonly record: number }

/**
 * Carries edits out, and with them what no edit asks for: files that were deleted while they were open, files that no
 * directory leads to, clusters that belong to no file, and the journal of changes ($UsnJrnl), which names everything. All of
 * the MFT is looked through before the first byte changes; what does not fit together is refused.
 */
export async function applyEdits(ntfs: Ntfs, reader: NtfsReader, edits: readonly Edit[]): Promise<void> {
  const changes: Change[] = []
  for (const edit of edits) {
    assert(edit.is !== 'write' && edit.is !== 'link')
    if (edit.is === 'remove') continue
    const child = await reader.find(edit.path)
    assert(child !== undefined && edit.path.length > 0)
    if (edit.is === 'empty' && child.kind === 'directory') continue
    changes.push(
      edit.is === 'registry'
        ? { is: 'registry', record: child.record, keys: edit.keys }
        : edit.is === 'blank'
          ? { is: 'blank', record: child.record, keepBytes: edit.keepBytes }
          : { is: 'empty', record: child.record },
    )
  }
  const removal = await planRemoval(ntfs, reader, edits)
  for (const change of changes) {
    // By another name of the same file.
    if (removal.isGoing(change.record)) continue
    const file = await ntfs.readFile(change.record)
    if (change.is === 'blank') await blank(ntfs, file, change.keepBytes)
    else if (change.is === 'registry') await dropKeys(ntfs, file, change.keys)
    else for (const run of await empty(ntfs, file)) removal.freed.set(run.lcn, run.length, true)
  }
  await sweep(ntfs, removal)
  await ntfs.writeBitmaps()
}

/** What is stored of it from `keepBytes` on becomes zero, to the end of its clusters. */
async function blank(ntfs: Ntfs, file: NtfsFile, keepBytes: number): Promise<void> {
  const data = findAttribute(file, ATTRIBUTE.data)
  if (data === undefined || data.dataBytes <= keepBytes) return
  if (data.value !== undefined) {
    data.value.fill(0, keepBytes)
    await writeAll(ntfs, file)
    return
  }
  if (data.isCompressed || data.isEncrypted) {
    throw refuse(
      'unsupported',
      'A paging file of the volume is compressed or encrypted. Turn that off inside the machine, then try again.',
    )
  }
  for (const { at, lengthBytes } of eachStretch(
    data.runs,
    ntfs.geometry.clusterBytes,
    keepBytes,
    data.allocatedBytes - keepBytes,
  )) {
    if (at !== null) await ntfs.medium.zero(at, lengthBytes)
  }
}

async function dropKeys(ntfs: Ntfs, file: NtfsFile, keys: readonly (readonly string[])[]): Promise<void> {
  const data = findAttribute(file, ATTRIBUTE.data)
  const { number } = file.record
  if (data === undefined) throw damaged(`file record ${number} should be a registry hive and has no content`)
  if (data.dataBytes > HIVE_BYTES_MAX) {
    throw refuse(
      'too-large',
      'A registry hive of the volume is larger than can be changed. Leave the profiles out of the cleaning.',
    )
  }
  const isPlain =
    data.value === undefined &&
    !data.isCompressed &&
    !data.isEncrypted &&
    data.initializedBytes === data.dataBytes &&
    !data.runs.some(({ lcn }) => lcn === null) &&
    findAttribute(file, ATTRIBUTE.reparsePoint) === undefined
  const bytes = isPlain ? await readStream(ntfs, data, data.dataBytes) : undefined
  if (bytes === undefined) {
    throw refuse(
      'unsupported',
      'A registry hive of the volume is compressed, encrypted or sparse. Turn that off inside the machine, then try again.',
    )
  }
  const changed = parseHive(bytes).without(keys)
  assert(changed.length === bytes.length)
  await ntfs.writeAttribute(data, 0, changed)
}

/** All its streams go but an empty unnamed one. Answers the clusters they had. */
async function empty(ntfs: Ntfs, file: NtfsFile): Promise<{ lcn: number; length: number }[]> {
  const streams = file.attributes.filter(({ type }) => type === ATTRIBUTE.data)
  const unnamed = streams.find(({ name }) => name === '')
  const clusters = streams.flatMap(({ runs }) =>
    runs.flatMap(({ lcn, length }) => (lcn === null ? [] : [{ lcn, length }])),
  )
  const { number } = file.record
  await emptySizes(ntfs, file)
  const gone: Piece[] = streams.flatMap((stream) =>
    stream === unnamed ? stream.pieces.slice(1) : stream.pieces,
  )
  if (gone.length > 0) await dropPieces(ntfs, file, gone)
  const after = gone.length > 0 ? await ntfs.readFile(number) : file
  const data = findAttribute(after, ATTRIBUTE.data)
  const piece = data?.pieces[0]
  if (piece !== undefined) setEmpty(rawOf(after, piece.record), piece.offset)
  await writeAll(ntfs, after)
  return clusters
}

async function writeAll(ntfs: Ntfs, file: NtfsFile): Promise<void> {
  for (const record of [file.record, ...file.extensions]) await ntfs.writeRecord(record)
}
