import assert from 'node:assert/strict'

/** What a member of an archive is; `mode` holds its permissions, and its kind too for a device. */
export type CpioMember =
  | { readonly is: 'folder'; readonly path: string }
  | { readonly is: 'file'; readonly path: string; readonly mode: number; readonly bytes: Buffer }
  | { readonly is: 'console'; readonly path: string }

const S_IFDIR = 0o040000
const S_IFREG = 0o100000
const S_IFCHR = 0o020000
const END = 'TRAILER!!!'

/**
 * An archive as the kernel unpacks it for its first file system, everything in it owned by root: written by ourselves, no
 * right of root is needed, not even for a device. Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
 */
export function writeCpio(members: readonly CpioMember[]): Buffer {
  const pieces = members.flatMap((member, index) => {
    switch (member.is) {
      case 'folder':
        return entry(member.path, index + 1, S_IFDIR | 0o755)
      case 'file':
        return entry(member.path, index + 1, S_IFREG | member.mode, member.bytes)
      case 'console':
        // Character device 5:1, which the kernel opens for the first process before anything is mounted.
        return entry(member.path, index + 1, S_IFCHR | 0o600, Buffer.alloc(0), [5, 1])
      default:
        return member satisfies never
    }
  })
  return Buffer.concat([...pieces, ...entry(END, 0, 0)])
}

function entry(
  path: string,
  inode: number,
  mode: number,
  bytes: Buffer = Buffer.alloc(0),
  [major, minor] = [0, 0],
): Buffer[] {
  assert(!path.startsWith('/') && !path.includes('\0'))
  const name = Buffer.from(`${path}\0`)
  const size = bytes.length
  assert(size < 2 ** 32)
  // inode, mode, uid, gid, links, time, size, device (2), what device it is (2), length of the name, check
  const fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name.length, 0]
  const header = Buffer.from(`070701${fields.map((field) => field?.toString(16).padStart(8, '0')).join('')}`)
  return [...padded([header, name]), ...padded([bytes])]
}

/** Names together with their headers, and contents, each end at a multiple of four bytes. */
function padded(pieces: readonly Buffer[]): Buffer[] {
  const lengthBytes = pieces.reduce((sum, piece) => sum + piece.length, 0)
  return [...pieces, Buffer.alloc(-lengthBytes & 3)]
}
