import { refuseFile } from './contract.ts'

const KEYS_KNOWN = new Set(['version', 'encoding', 'cid', 'parentcid', 'createtype', 'isnativesnapshot'])
const NO_PARENT = 'ffffffff'
const LINES_MAX = 1000
/**
 * QEMU writes the text again with another number, of one to eight digits, and leaves behind the end what a longer text had
 * there: the last letters of the same text.
 */
const LEFT_OVER_BYTES_MAX = 7

/**
 * Checks the text in a VMDK: one disk in one file, this one, of the type its header says, `capacity` sectors large.
 * `bytes` is the whole room for it. Nothing in it is ever used: a name in it is checked and forgotten.
 */
export function checkVmdkDescriptor(bytes: Buffer, createType: string, capacity: bigint): void {
  const text = textOf(bytes)
  // Tools look for these words anywhere, comments and values included, and believe what follows.
  if (/parentFileName|nativeParent/i.test(text)) throw refuseParent()
  if (/CID=(?!\s*[0-9a-f])/i.test(text)) throw refuseText()
  if (/changeTrack/i.test(text)) {
    throw refuseFile(
      'extents',
      'This VMDK names a file with tracked changes. Switch changed block tracking off, or write it anew with: qemu-img convert -O qcow2.',
    )
  }
  if (/encrypt|keysafe/i.test(text)) {
    throw refuseFile('encrypted', 'This VMDK is encrypted. Decrypt its machine first, then export it again.')
  }
  const keys = new Map<string, string>()
  let extentCount = 0
  const lines = text.split(/\r?\n/)
  if (lines.length > LINES_MAX) throw refuseText()
  for (const untrimmed of lines) {
    const line = untrimmed.trim()
    if (line === '' || line.startsWith('#')) continue
    if (/^(RW|RDONLY|NOACCESS)\s/i.test(line)) {
      extentCount += 1
      checkExtent(line, createType, capacity)
      continue
    }
    const [, key, value] = /^([A-Za-z0-9_.:-]{1,128})\s*=\s*("[^"]*"|[A-Za-z0-9_.-]*)$/.exec(line) ?? []
    if (key === undefined || value === undefined) throw refuseText()
    if (/^ddb\./i.test(key)) {
      // VirtualBox's way to tell a parent; of zeros for none.
      if (/^ddb\.uuid\.parent$/i.test(key) && /[^"0-]/.test(value)) throw refuseParent()
      continue
    }
    if (!KEYS_KNOWN.has(key.toLowerCase())) throw refuseText()
    if (keys.has(key.toLowerCase())) throw refuseText()
    keys.set(key.toLowerCase(), value.replaceAll('"', ''))
  }
  if (keys.get('parentcid')?.toLowerCase() !== NO_PARENT) throw refuseParent()
  if (extentCount !== 1) throw refuseExtents()
  if (keys.get('createtype') !== createType) throw refuseExtents()
}

/**
 * The text ends with a zero inside its room, as tools read on until they find one, whatever the room; no word fits into what
 * may follow.
 * Bytes above 0x7f are some alphabet's: which one is of no matter, as no name in here is ever opened.
 */
function textOf(bytes: Buffer): string {
  const end = bytes.indexOf(0)
  if (end === -1 || !bytes.subarray(end + 1 + LEFT_OVER_BYTES_MAX).every((byte) => byte === 0))
    throw refuseText()
  const text = bytes.toString('latin1', 0, end)
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if ((code < 0x20 && code !== 0x09 && code !== 0x0a && code !== 0x0d) || code === 0x7f) throw refuseText()
  }
  return text
}

/** The one form that names the file itself. Whoever reads the file ignores the name; one that leads elsewhere is a lie. */
function checkExtent(line: string, createType: string, capacity: bigint): void {
  const [, access, sectors, name] = /^(\w+)\s+(\d{1,19})\s+SPARSE\s+"([^"]*)"$/.exec(line) ?? []
  if (sectors === undefined || name === undefined) throw refuseExtents()
  // OVF Tool calls its streams read-only, as nobody can write into one.
  if (access !== 'RW' && !(access === 'RDONLY' && createType === 'streamOptimized')) throw refuseExtents()
  if (name === '' || name === '.' || name === '..' || /[/\\:]/.test(name)) throw refuseExtents()
  if (BigInt(sectors) !== capacity) {
    throw refuseFile(
      'corrupt',
      'Header and description of this VMDK tell different sizes: it is damaged. Write it anew with: qemu-img convert -O qcow2.',
    )
  }
}

function refuseParent() {
  return refuseFile(
    'parent',
    'This VMDK holds only what differs from another file. Flatten it first: qemu-img convert -O qcow2 SOURCE.vmdk TARGET.qcow2.',
  )
}

export function refuseExtents() {
  return refuseFile(
    'extents',
    'The data of this VMDK is in other files. Join them first: qemu-img convert -O qcow2 SOURCE.vmdk TARGET.qcow2.',
  )
}

function refuseText() {
  return refuseFile(
    'corrupt',
    'The description in this VMDK cannot be understood. Write the file anew with: qemu-img convert -O qcow2.',
  )
}
