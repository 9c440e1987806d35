import type { Draft, VolumeEdit } from './draft.ts'
import type { LinuxSystem } from './linux.ts'
import type { Place } from './tree.ts'

const LOGINS = /^(wtmp|btmp|lastlog|faillog|tallylog)([.-].{0,60})?$/
/** Of a log that is not written to any more: numbered, dated or compressed. */
const ROTATED = /\.(gz|xz|bz2|zst|lz4|Z|old|\d{1,6})$|[-.]\d{8}([-_]\d{1,6})?(\.|$)|\.\d{1,6}\.log$|~$/
/** Beyond, whole directories are emptied: what they hold is logs all the same. */
const ENTRY_COUNT_MAX = 50_000

/**
 * Logs stay as empty files, for many programs do not make their own or not with the owner they need; old ones go. Who logged
 * in when is an operation of its own.
 */
export async function planLogs({ tree }: LinuxSystem, draft: Draft): Promise<void> {
  const top = await tree.resolveDirectory('/var/log')
  if (top === undefined) return
  const edits: VolumeEdit[] = []
  const todo: Place[] = [top]
  let entryCount = 0
  for (let place = todo.pop(); place !== undefined; place = todo.pop()) {
    for (const entry of await tree.entries(place)) {
      entryCount += 1
      const { volume, path, kind, name } = entry
      if (path.length <= 1 && name === 'lost+found') continue
      if (place === top && LOGINS.test(name)) continue
      if (kind === 'directory') {
        if (entryCount > ENTRY_COUNT_MAX || (place === top && name === 'journal')) {
          edits.push(...(await tree.clearing(entry)))
        } else todo.push(entry)
      } else if (kind === 'file') {
        edits.push({ volume, edit: { is: ROTATED.test(name) ? 'remove' : 'empty', path } })
      }
    }
  }
  await draft.claim({
    operation: 'logs',
    volume: top.volume,
    shown: tree.shown(top.guest),
    how: 'emptied',
    edits,
  })
}

/** Who logged in when. Those in use stay as empty files: nothing makes them again. */
export async function planLogins({ tree }: LinuxSystem, draft: Draft): Promise<void> {
  const top = await tree.resolveDirectory('/var/log')
  for (const { name, kind, volume, path, guest } of top === undefined ? [] : await tree.entries(top)) {
    if (kind !== 'file' || !LOGINS.test(name)) continue
    const isLive = /^[a-z]+$/.test(name)
    await draft.claim({
      operation: 'logins',
      volume,
      shown: tree.shown(guest),
      how: isLive ? 'emptied' : 'removed',
      edits: [{ volume, edit: { is: isLive ? 'empty' : 'remove', path } }],
    })
  }
  // Databases are made new, and an empty one is none.
  for (const at of ['/var/lib/lastlog/lastlog2.db', '/var/lib/wtmpdb/wtmp.db', '/var/log/wtmp.db']) {
    const place = await tree.resolve(at)
    if (place?.facts.kind !== 'file') continue
    const { volume, path, guest } = place
    const edits: VolumeEdit[] = [{ volume, edit: { is: 'remove', path } }]
    await draft.claim({ operation: 'logins', volume, shown: tree.shown(guest), how: 'removed', edits })
  }
}
