import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { assertGone } from '../disks/search.ts'
import { Tokens } from '../disks/tokens.ts'
import type { Place } from '../e2e/harness.ts'
import { type Guest, importDebian, launch, newDebianPlace, ROOT_START_BYTES } from '../live/debian.ts'
import { assertClean } from '../live/disks.ts'
import { assertNothingOnMachine } from '../live/left.ts'
import { newSeed } from '../live/seed.ts'
import { assertNothingLeft } from './left.ts'
import { createCleanImage, exportDisk } from './place.ts'

const MIB = 1024 ** 2
const KEPT_TEXT = 'what root has of his own stays'

/** Somebody works on it: files, some deleted again, a history, mail, a log. Answers the words that are now on its disks. */
async function useMachine(guest: Guest, tokens: Tokens): Promise<void> {
  const home = '/home/anna'
  await guest.run(`echo ${KEPT_TEXT} >/root/kept; mkdir -p ${home}/docs /var/mail /data/set`)
  for (const kind of ['doc', 'dotfile', 'deep'])
    await guest.run(
      `mkdir -p ${home}/docs/${kind}; yes ${tokens.newGone(kind)} | head -c 90000 >${home}/docs/${kind}/${tokens.newGone('name')}`,
    )
  await guest.run(`echo ${tokens.newGone('small')} >${home}/.profile; chown -R anna:anna ${home}`)
  await guest.run(`yes ${tokens.newGone('deleted')} | head -c 300000 >/root/deleted; sync; rm /root/deleted`)
  await guest.run(
    `echo ${tokens.newGone('history')} >/root/.bash_history; echo ${tokens.newGone('mail')} >/var/mail/anna`,
  )
  await guest.run(
    `echo ${tokens.newGone('log')} >>/var/log/messages; echo ${tokens.newGone('temp')} >/var/tmp/text`,
  )
  await guest.run(
    `yes ${tokens.newGone('data')} | head -c 300000 >/data/set/one; sync; rm /data/set/one; echo stays >/data/set/two`,
  )
}

interface Identity {
  readonly machineId: string
  readonly hostKeys: string
}

async function identityOf(guest: Guest): Promise<Identity> {
  const machineId = await guest.run('cat /etc/machine-id')
  const hostKeys = await guest.run(
    'for k in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $k; done | cut -d" " -f2',
  )
  return { machineId: machineId.split('\n').at(-1) ?? '', hostKeys }
}

/** A machine of the cleaned image: nobody's files, but the account with its home, and an SSH that would start. */
async function assertFresh(guest: Guest): Promise<Identity> {
  // The console is there before the start has come to its end.
  await guest.run('systemctl is-system-running --wait >/dev/null')
  assert.equal(await guest.run('ls -A /home/anna | wc -l'), '0')
  assert.equal(await guest.run('stat -c "%U %a" /home/anna'), 'anna 700')
  assert.equal(await guest.run('cat /root/kept /data/set/two'), `${KEPT_TEXT}\nstays`)
  assert.equal(await guest.run('mkdir -p /run/sshd; sshd -t && echo sound'), 'sound')
  assert.equal(await guest.run('dmesg | grep -ciE "recovery|ext4-fs error|i/o error"'), '0')
  const identity = await identityOf(guest)
  assert.match(identity.machineId, /^[0-9a-f]{32}$/)
  assert.match(identity.hostKeys, /^SHA256:\S+\nSHA256:\S+\nSHA256:\S+$/)
  return identity
}

/** As the server's exports give it; both disks. */
async function assertImageIsClean(place: Place, image: Parameters<typeof exportDisk>[1], tokens: Tokens) {
  const folder = await mkdtemp(join(tmpdir(), 'calo-guest-'))
  try {
    for (const [index, offset] of [ROOT_START_BYTES, 0].entries()) {
      const path = join(folder, `${index}.raw`)
      await exportDisk(place, image, index, path)
      await assertGone(path, tokens, `disk ${index}`)
      await assertClean(path, offset)
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

test('a Debian that runs is cleaned on its way into an image, and goes on as it was', async (t) => {
  const tokens = new Tokens(newSeed(t))
  const place = await newDebianPlace(t)
  const base = await importDebian(place)
  const guest = await launch(place, base.id, 'source', [{ sizeBytes: 64 * MIB }])
  await useMachine(guest, tokens)
  const source = await identityOf(guest)
  const files = await guest.run(
    'find /home /root /var/mail /etc/ssh -type f -exec sha256sum {} + | sort | sha256sum',
  )
  await guest.run('systemctl start writer; sync')

  const { image, task } = await createCleanImage(place, guest.id, 'cleaned')
  assert.equal(task.state, 'done', task.reason ?? '')
  t.diagnostic(JSON.stringify(task.output))

  await t.test('the running guest has all its files and goes on writing', async () => {
    const before = await guest.run('cat /var/lib/writer/counter')
    assert.equal(
      await guest.run('find /home /root /var/mail /etc/ssh -type f -exec sha256sum {} + | sort | sha256sum'),
      files,
    )
    await guest.run(
      'while [ "$(cat /var/lib/writer/counter)" = "BEFORE" ]; do sleep 0.1; done'.replace('BEFORE', before),
    )
    assert.deepEqual(await identityOf(guest), source)
    await assertNothingOnMachine(place, guest.id)
    await guest.run('systemctl stop writer')
  })

  await t.test('its image has nothing of what had to go', async () => {
    await assertImageIsClean(place, image, tokens)
    await assertNothingLeft(place, tokens)
  })

  await t.test('two machines of it have identities of their own', async () => {
    const [one, two] = await Promise.all(
      ['one', 'two'].map(async (name) => assertFresh(await launch(place, image.id, name))),
    )
    assert(one !== undefined && two !== undefined)
    for (const [a, b] of [
      [one, two],
      [one, source],
      [two, source],
    ] as const) {
      assert.notEqual(a.machineId, b.machineId)
      for (const key of a.hostKeys.split('\n')) assert(!b.hostKeys.includes(key), 'a host key is there twice')
    }
  })
})
