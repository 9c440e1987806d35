import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { chooseAcceleration, getQemuVersion, QEMU, type Trial, tryGuest } from './acceleration.ts'

async function newFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'calotype-acceleration-'))
  t.after(() => rm(folder, { recursive: true }))
  return folder
}

test('acceleration is what a trial guest ran under, and is remembered', async (t) => {
  const path = join(await newFolder(t), 'acceleration.json')
  assert.equal((await tryGuest('tcg')).outcome, 'ran')
  const version = await getQemuVersion()
  const answer = await chooseAcceleration(path, version)
  const works = answer.kvmOpens && (await tryGuest('kvm')).outcome === 'ran'
  assert.equal(answer.acceleration, works ? 'kvm' : 'tcg')
  t.diagnostic(`${answer.acceleration}: ${answer.why}`)
})

test('only a clear outcome is remembered, and only as long as nothing changes', async (t) => {
  const path = join(await newFolder(t), 'acceleration.json')
  const outcomes: Trial['outcome'][] = ['unclear', 'failed', 'unclear', 'ran']
  let trials = 0
  const look = {
    kvmOpens: async () => true,
    tryKvm: async () => ({ outcome: outcomes[trials++] ?? 'unclear', why: 'so' }),
  }
  const choose = async (version: string) => [
    (await chooseAcceleration(path, version, look)).acceleration,
    trials,
  ]
  assert.deepEqual(await choose('7.2'), ['tcg', 1])
  assert.deepEqual(await choose('7.2'), ['tcg', 2])
  assert.deepEqual(await choose('7.2'), ['tcg', 2])
  assert.deepEqual(await choose('8.0'), ['tcg', 3])
  assert.deepEqual(await choose('8.0'), ['kvm', 4])
  assert.deepEqual(await choose('8.0'), ['kvm', 4])
  await writeFile(path, 'damaged')
  assert.deepEqual(await choose('8.0'), ['tcg', 5])
  const nowhere = join(path, 'none.json')
  outcomes[5] = 'ran'
  assert.equal((await chooseAcceleration(nowhere, '8.0', look)).acceleration, 'kvm')
})

const ENDS: readonly (readonly [string, string, Trial['outcome']])[] = [
  ['takes too long', 'exec sleep 60', 'unclear'],
  ['has no memory', "echo 'cannot set up guest memory: Cannot allocate memory' >&2; exit 1", 'unclear'],
  ['is killed for its memory', 'kill -9 $$', 'unclear'],
  ['finds KVM in use', "echo 'ioctl(KVM_CREATE_VM) failed: Device or resource busy' >&2; exit 1", 'unclear'],
  ['cannot open its disk', "echo 'Could not open disk: No space left on device' >&2; exit 1", 'unclear'],
  ['may not use KVM', "echo 'Could not access KVM kernel module' >&2; exit 1", 'failed'],
  ['hangs in a fault of KVM', "echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60", 'failed'],
  ['crashes', 'ulimit -c 0; kill -ABRT $$', 'failed'],
  ['resets', 'exit 0', 'failed'],
  ['finds its memory wrong', 'exit 3', 'failed'],
  ['says that it ran', "echo 'guest ran'; exit 3", 'ran'],
]
for (const [what, script, outcome] of ENDS) {
  test(`a trial whose QEMU ${what}: ${outcome}`, async (t) => {
    const folder = await newFolder(t)
    const path = process.env.PATH
    t.after(() => {
      process.env.PATH = path
    })
    await writeFile(join(folder, QEMU), `#!/bin/sh\n${script}\n`)
    await chmod(join(folder, QEMU), 0o755)
    process.env.PATH = `${folder}:${path}`
    assert.equal((await tryGuest('kvm', script.includes('sleep') ? 500 : 30_000)).outcome, outcome)
  })
}
