import { damaged, refuse } from '../refuse.ts'
import { undoFixup } from './fixup.ts'
import { ATTRIBUTE, type Attribute, findAttribute, type Ntfs, RECORD, STRIDE_BYTES } from './model.ts'

const VOLUME_DIRTY = 1
const RESTART_CLEAN = 2
const NO_CLIENT = 0xffff

/** Refuses a volume of another version, one marked dirty and one whose log was not closed. Answers its label. */
export async function checkVolume(ntfs: Ntfs): Promise<string> {
  const file = await ntfs.readFile(RECORD.volume)
  const information = findAttribute(file, ATTRIBUTE.volumeInformation)?.value
  if (information === undefined || information.length < 12)
    throw damaged('the volume has no description of itself')
  const major = information.readUInt8(8)
  const minor = information.readUInt8(9)
  if (major !== 3 || minor > 1) {
    throw refuse(
      'unsupported',
      `The volume is NTFS ${major}.${minor}, which is not supported. NTFS 3.0 and 3.1 are.`,
    )
  }
  if ((information.readUInt16LE(10) & VOLUME_DIRTY) !== 0) throw dirty()
  if (!(await isLogClosed(ntfs))) throw dirty()
  return findAttribute(file, ATTRIBUTE.volumeName)?.value?.toString('utf16le') ?? ''
}

function dirty() {
  return refuse(
    'dirty',
    'The NTFS volume was not closed cleanly. Start Windows, let it check the disk (chkdsk /f), shut it down with "shutdown /s /t 0", then try again.',
  )
}

/** Whether the volume holds the memory of a sleeping Windows. `file`: hiberfil.sys of the root. */
export async function checkHibernation(ntfs: Ntfs, data: Attribute): Promise<void> {
  const head =
    data.initializedBytes < 4 ? '' : (await ntfs.readAttribute(data, 0, 4)).toString('latin1').toLowerCase()
  // 'wake' and zeroes are what a Windows leaves that started normally; 'rstr' one that stopped while it woke up.
  if (head !== 'hibr' && head !== 'rstr') return
  // The kernel's image of a fast startup has the same head, in a form that differs between versions.
  throw refuse(
    'hibernated',
    'Windows is hibernated on this volume, or was shut down with fast startup on. Start it and shut it down whole ("shutdown /s /t 0", or "powercfg /h off" first), then try again.',
  )
}

/**
 * Whether nothing in $LogFile waits to be done. Two restart pages stand at its beginning; the one written last counts. A log
 * of 0xff is new. Source: ntfs-3g's documentation of the log's layout; [Windows Internals], "Log file service".
 */
async function isLogClosed(ntfs: Ntfs): Promise<boolean> {
  const data = findAttribute(await ntfs.readFile(RECORD.logFile), ATTRIBUTE.data)
  if (data === undefined || data.isResident || data.initializedBytes < 16_384)
    throw damaged('the log is too short')
  const bytes = await ntfs.readAttribute(data, 0, 16_384)
  if (bytes.every((byte) => byte === 0xff)) return true
  let last: { lsn: bigint; isClosed: boolean } | undefined
  for (const offset of [0, 512, 1024, 2048, 4096, 8192]) {
    const page = parseRestartPage(bytes.subarray(offset))
    if (page !== undefined && (last === undefined || page.lsn > last.lsn)) last = page
  }
  return last?.isClosed ?? false
}

function parseRestartPage(bytes: Buffer): { lsn: bigint; isClosed: boolean } | undefined {
  const signature = bytes.toString('latin1', 0, 4)
  // chkdsk signs the page with its own name once it has emptied the log.
  if (signature !== 'RSTR' && signature !== 'CHKD') return undefined
  const pageBytes = bytes.readUInt32LE(16)
  if (pageBytes < STRIDE_BYTES || pageBytes > bytes.length || (pageBytes & (pageBytes - 1)) !== 0)
    return undefined
  const page = Buffer.from(bytes.subarray(0, pageBytes))
  // Of a page without sectors to protect the count is one, and there is nothing to undo.
  if (page.readUInt16LE(6) > 1 && !undoFixup(page)) return undefined
  const area = page.readUInt16LE(24)
  if (area < 32 || area + 16 > page.length) return undefined
  const clientsInUse = page.readUInt16LE(area + 12)
  const flags = page.readUInt16LE(area + 14)
  return {
    lsn: page.readBigUInt64LE(area),
    isClosed: signature === 'CHKD' || clientsInUse === NO_CLIENT || (flags & RESTART_CLEAN) !== 0,
  }
}
