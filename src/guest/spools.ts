import type { CleaningOperation } from '../image/cleaning.ts'
import type { Draft } from './draft.ts'
import type { LinuxSystem } from './linux.ts'
import type { Place } from './tree.ts'

/** Everybody's mail, root's too. */
export async function planMail({ tree }: LinuxSystem, draft: Draft): Promise<void> {
  // Either may be a link to the other; then both are the same place, which is claimed once.
  for (const at of ['/var/mail', '/var/spool/mail']) {
    const spool = await tree.resolveDirectory(at)
    if (spool === undefined) continue
    for (const entry of await tree.entries(spool)) {
      if (entry.name !== 'lost+found') await claimRemoval('mail', { tree }, entry, draft)
    }
  }
}

/** Tables of ordinary users, and of users that are gone; jobs of all. Root's table may be what the system works by. */
export async function planCron({ tree, accounts }: LinuxSystem, draft: Draft): Promise<void> {
  for (const at of ['/var/spool/cron/crontabs', '/var/spool/cron', '/var/spool/cron/tabs']) {
    const spool = await tree.resolveDirectory(at)
    if (spool === undefined) continue
    for (const entry of await tree.entries(spool)) {
      // Names that no account can have are the package's own.
      if (entry.kind !== 'file' || entry.name.startsWith('.')) continue
      if (accounts.namedFor(entry.name) === 'ordinary') await claimRemoval('cron', { tree }, entry, draft)
      else draft.keep(entry.volume, tree.shown(entry.guest), 'it may be what the system works by')
    }
  }
  for (const at of [
    '/var/spool/cron/atjobs',
    '/var/spool/cron/atspool',
    '/var/spool/at',
    '/var/spool/at/spool',
  ]) {
    const spool = await tree.resolveDirectory(at)
    if (spool === undefined) continue
    const jobs = (await tree.entries(spool)).filter(({ name, kind }) => kind === 'file' && name !== '.SEQ')
    await draft.claim({
      operation: 'cron',
      volume: spool.volume,
      shown: `${tree.shown(spool.guest)}/*`,
      how: 'removed',
      edits: jobs.map(({ volume, path }) => ({ volume, edit: { is: 'remove', path } })),
    })
  }
}

async function claimRemoval(
  operation: CleaningOperation,
  { tree }: Pick<LinuxSystem, 'tree'>,
  { volume, path, guest }: Place,
  draft: Draft,
): Promise<void> {
  await draft.claim({
    operation,
    volume,
    shown: tree.shown(guest),
    how: 'removed',
    edits: [{ volume, edit: { is: 'remove', path } }],
  })
}
