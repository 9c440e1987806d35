import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { isSignedReport } from '../../cleaning/signature.ts'
import { CLEAN_ALL, parseOperations } from '../../image/cleaning.ts'
import { Fault } from '../../image/fault.ts'
import { newId } from '../../image/ids.ts'
import type { Door } from '../gateway-contract.ts'
import { createNativeDoor } from './door.ts'
import { createFakeApp, type FakeApp } from './fixture.ts'
import { fakeImage, NOW_MS } from './fixture-nouns.ts'
import { signedRequest } from './fixture-request.ts'

let fake: FakeApp
let door: Door

beforeEach(() => {
  fake = createFakeApp()
  door = createNativeDoor({
    app: fake.app,
    keyring: fake.keyring,
    clock: () => NOW_MS,
    clockWindowMs: 60_000,
    onBug: (error) => {
      throw error
    },
  })
})

type Json = ReturnType<typeof JSON.parse>

async function ask(method: string, url: string, body?: unknown): Promise<{ status: number; json: Json }> {
  const answer = await door.handle(signedRequest(method, url, body))
  return { status: answer.status, json: JSON.parse(answer.body.toString()) }
}
const inputOf = (name: string): Json => fake.calls.findLast((call) => call.name === name)?.input

const wish = (selection: string, change: object = {}) => ({
  ...{ ...CLEAN_ALL, operations: parseOperations(selection, 'clean') },
  ...change,
})
const machineId = `vm-${newId('machine')}`
const image = `/v1/images/img-${newId('image')}`
const snapshotIds = [`snap-${newId('snapshot')}`]

test('a cleaning is said in three ways, and means the same on every route', async () => {
  const said = [
    [true, CLEAN_ALL],
    ['all', CLEAN_ALL],
    ['', CLEAN_ALL],
    [{}, CLEAN_ALL],
    ['windows,-search-index', wish('windows,-search-index')],
    ['-logs', wish('-logs')],
    [{ operations: 'linux' }, wish('linux')],
    [
      { operations: ['linux', '-swap', 'LOGS'], bestEffort: true },
      wish('linux,-swap,logs', { isBestEffort: true }),
    ],
    [{ operations: null, secrets: 'refuse', bestEffort: false }, wish('', { onSecrets: 'refuse' })],
  ] as const
  for (const [clean, expected] of said) {
    for (const [path, body, useCase] of [
      ['/v1/images/capture', { machineId }, 'images.capture'],
      ['/v1/images/plan', { machineId }, 'images.plan'],
      ['/v1/images/compose', { snapshotIds }, 'images.compose'],
      [`${image}/clean`, {}, 'images.clean'],
      [`${image}/clean/plan`, {}, 'images.planClean'],
    ] as const) {
      const { status, json } = await ask('POST', path, { ...body, clean })
      assert.equal(status, 202, JSON.stringify(json))
      assert.deepEqual(inputOf(useCase).clean, expected)
    }
  }
  await ask('POST', `${image}/clean?clean=true`)
  assert.deepEqual(inputOf('images.clean').clean, CLEAN_ALL)
  await ask('POST', `/v1/images/capture?clean=identity&machineId=${machineId}`)
  assert.deepEqual(inputOf('images.capture').clean, wish('identity'))
})

test('who says nothing, or false, captures the disks as they are, and cleans an image of everything', async () => {
  for (const clean of [undefined, null, false, 'false']) {
    await ask('POST', '/v1/images/capture', { machineId, clean })
    assert.equal(inputOf('images.capture').clean, undefined)
  }
  for (const clean of [undefined, null]) {
    await ask('POST', `${image}/clean`, { clean })
    assert.deepEqual(inputOf('images.clean').clean, CLEAN_ALL)
  }
})

test('what is no cleaning is refused, and nothing is begun', async () => {
  for (const [clean, field] of [
    [1, 'clean'],
    [['windows'], 'clean'],
    ['x'.repeat(2000), 'clean'],
    ['doors', 'clean'],
    ['logs,-logs', 'clean'],
    [{ mode: 'all' }, 'clean'],
    [{ operations: [] }, 'clean.operations'],
    [{ operations: 'doors' }, 'clean.operations'],
    [{ operations: [''] }, 'clean.operations'],
    [{ operations: ['windows,linux'] }, 'clean.operations'],
    [{ operations: [7] }, 'clean.operations'],
    [{ operations: true }, 'clean.operations'],
    [{ operations: Array(101).fill('windows') }, 'clean.operations'],
    [{ bestEffort: 'yes' }, 'clean.bestEffort'],
    [{ secrets: 'ignore' }, 'clean.secrets'],
  ] as const) {
    for (const path of [`${image}/clean`, `${image}/clean/plan`, '/v1/images/capture']) {
      const { status, json } = await ask('POST', path, {
        ...(path.endsWith('capture') ? { machineId } : {}),
        clean,
      })
      assert.deepEqual(
        [status, json.error.kind, json.error.field],
        [400, 'invalid', field],
        JSON.stringify(clean),
      )
    }
  }
  const whether = await ask('POST', `${image}/clean`, { clean: false })
  assert.deepEqual([whether.status, whether.json.error.field], [400, 'clean'])
  const unknown = await ask('POST', `${image}/clean/plan`, { name: 'n' })
  assert.equal(unknown.json.error.reason, 'unknown-parameter')
  assert.equal(fake.calls.length, 0)
})

test('an image is cleaned into a new one, which tells so; a plan tells what would go', async () => {
  const words = { name: 'n', description: 'd', tag: 't' }
  const made = await ask('POST', `${image}/clean`, {
    ...words,
    clean: 'windows',
    region: 'hk',
    project: 'org-a',
  })
  assert.deepEqual(inputOf('images.clean'), {
    ...{ regionId: 'hk', projectId: 'org-a', imageId: image.slice(-17), clean: wish('windows') },
    ...words,
  })
  const { origin, cleaning } = (await ask('GET', `/v1/images/${made.json.imageId}?region=hk`)).json
  assert.deepEqual([origin, cleaning.removedFileCount, cleaning.leftVolumeCount], ['clean', 3, 0])
  const plain = fakeImage()
  fake.images.set(plain.id, plain)
  assert.equal((await ask('GET', `/v1/images/img-${plain.id}`)).json.cleaning, null)

  const planned = await ask('POST', `${image}/clean/plan`, { region: 'hk' })
  const { output, kind } = (await ask('GET', `/v1/tasks/${planned.json.taskId}`)).json
  assert.deepEqual([kind, output.blockers, output.cleaning.isDryRun], ['plan-clean', [], true])
  const { taskId } = (await ask('POST', '/v1/images/plan', { machineId, clean: true })).json
  assert.equal(
    (await ask('GET', `/v1/tasks/${taskId}`)).json.output.cleaning.removed[0].path,
    '\\Users\\alice',
  )
})

test('a report comes as it was signed, or not at all', async () => {
  const { status, json } = await ask('GET', `${image}/report?region=hk`)
  assert.equal(status, 200)
  assert.deepEqual(json, fake.cleaning.report)
  assert.ok(isSignedReport(json))
  assert.deepEqual(inputOf('images.report'), {
    ...{ regionId: 'hk', projectId: undefined, imageId: image.slice(-17) },
  })
  const never = new Fault('absent', 'It was never cleaned.', { subject: 'image', reason: 'no-report' })
  fake.failNext('images.report', never)
  const none = await ask('GET', `${image}/report`)
  assert.deepEqual(
    [none.status, none.json.error.subject, none.json.error.reason],
    [404, 'image', 'no-report'],
  )
})
