import { refuseArchive } from './tar-refuse.ts'

/** What may be said of a member beside its header: nothing that changes where its bytes go. */
const KEYS_IDLE = new Set([
  'atime',
  'comment',
  'ctime',
  'gid',
  'gname',
  'LIBARCHIVE.creationtime',
  'mtime',
  'uid',
  'uname',
])

/**
 * Checks the records of an extended header: each 'LENGTH KEY=VALUE\n'. Answers the member's size where one is told (a
 * size over 8 GiB is). New names, links, sparse maps and anything unknown are refused.
 */
export function checkPaxRecords(bytes: Buffer): number | undefined {
  const keys = new Set<string>()
  let sizeBytes: number | undefined
  for (let at = 0; at < bytes.length; ) {
    const head = /^([1-9][0-9]{0,4}) ([A-Za-z.]{1,64})=/.exec(bytes.toString('latin1', at, at + 80))
    const [whole, length, key] = head ?? []
    if (whole === undefined || length === undefined || key === undefined) throw refusePax()
    const end = at + Number(length)
    if (end <= at + whole.length || end > bytes.length || bytes[end - 1] !== 0x0a) throw refusePax()
    if (keys.has(key)) throw refusePax()
    keys.add(key)
    if (key === 'size') {
      const value = bytes.toString('latin1', at + whole.length, end - 1)
      if (!/^[0-9]{1,15}$/.test(value)) throw refusePax()
      sizeBytes = Number(value)
    } else if (!KEYS_IDLE.has(key)) {
      throw refusePax()
    }
    at = end
  }
  return sizeBytes
}

function refusePax() {
  return refuseArchive('has headers that change the names or places of its files')
}
