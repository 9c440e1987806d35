import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { KeyPair } from '../../demo/clients.ts'
import { type Clerk, type Ledger, openLedger } from './ledger.ts'
import { newSmallPlace, personOf, type SmallPlace, taskEnd } from './small-place.ts'
import { AWAY, HOME, newName } from './valid-calls.ts'

export interface Statement {
  readonly Effect: 'Allow' | 'Deny'
  readonly Action?: string | readonly string[]
  readonly NotAction?: string | readonly string[]
  readonly Resource: string | readonly string[]
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, string>>>>
}
export const allow = (
  Action: string | readonly string[],
  Resource: string | readonly string[] = '*',
): Statement => ({
  Effect: 'Allow',
  Action,
  Resource,
})
export const deny = (
  Action: string | readonly string[],
  Resource: string | readonly string[] = '*',
): Statement => ({
  Effect: 'Deny',
  Action,
  Resource,
})

export interface Office {
  readonly place: SmallPlace
  readonly ledger: Ledger
  readonly root: Clerk
  readonly secrets: string[]
  readonly project: string
  newUser(): Promise<{ readonly name: string; readonly key: KeyPair; readonly clerk: Clerk }>
  putPolicy(name: string, statements: readonly Statement[]): Promise<void>
  attach(user: string, policy: string, project?: string): Promise<void>
  capture(machineId: string, project?: string): Promise<string>
  machines(imageId: string, count: number, project?: string): Promise<string[]>
}

export async function openOffice(t: TestContext): Promise<Office> {
  const place = await newSmallPlace(t)
  const ledger = openLedger(place)
  const root = ledger.clerk(place.server.key)
  const person = personOf(place)
  const secrets = [place.server.key.accessKeySecret]
  const { json } = await root.native('GET /v1/projects', { path: '/v1/projects' }, 'done')
  const project = (json.projects as { id: string }[])[0]?.id ?? ''
  return {
    place,
    ledger,
    root,
    secrets,
    project,
    async newUser() {
      const name = newName('person')
      const made = await root.native('POST /v1/users', { path: '/v1/users', body: { name } }, 'done')
      const { accessKeyId, accessKeySecret } = made.json as Readonly<Record<string, string>>
      const key = { accessKeyId: accessKeyId ?? '', accessKeySecret: accessKeySecret ?? '' }
      secrets.push(key.accessKeySecret)
      return { name, key, clerk: ledger.clerk(key) }
    },
    async putPolicy(name, statements) {
      const body = { document: { Version: '1', Statement: statements } }
      await root.native('PUT /v1/policies/:name', { path: `/v1/policies/${name}`, body }, 'done')
    },
    async attach(user, policy, inProject) {
      const body = { user, policy, ...(inProject && { project: inProject }) }
      await root.native('POST /v1/attachments', { path: '/v1/attachments', body }, 'done')
    },
    async capture(machineId, inProject = project) {
      const body = { region: HOME, project: inProject, machineId, name: newName('image') }
      const made = await root.native('POST /v1/images/capture', { path: '/v1/images/capture', body }, 'done')
      const task = await taskEnd(person, String(made.json.taskId))
      assert.equal(task.state, 'done', task.reason ?? '')
      return String(made.json.imageId)
    },
    async machines(imageId, count, inProject = project) {
      const body = { region: HOME, project: inProject, imageId, name: newName('machine'), count }
      const made = await root.native('POST /v1/machines', { path: '/v1/machines', body }, 'done')
      for (const id of made.json.taskIds as string[]) await taskEnd(person, id)
      return made.json.machineIds as string[]
    },
  }
}

export async function importBase({ root, place }: Office): Promise<string> {
  const body = { region: HOME, fileName: 'small.raw', name: 'base', kind: 'base' }
  const made = await root.native('POST /v1/images/import', { path: '/v1/images/import', body }, 'done')
  await taskEnd(personOf(place), String(made.json.taskId))
  return String(made.json.imageId)
}

/** An image made by cleaning another. Disks of random bytes are no file system, so they are left as they are. */
export async function cleanImage({ root, place }: Office, image: string): Promise<string> {
  const path = `/v1/images/${image}/clean`
  const body = { region: HOME, clean: { bestEffort: true }, name: newName('cleaned') }
  const made = await root.native('POST /v1/images/:id/clean', { path, body }, 'done')
  const { state, reason } = await taskEnd(personOf(place), String(made.json.taskId))
  assert.equal(state, 'done', reason ?? '')
  return String(made.json.imageId)
}

/** Copies to hk of an image that nobody has there, so slow that no test waits for their end. */
export async function slowCopies({ root, place }: Office, count: 3): Promise<readonly [Copy, Copy, Copy]> {
  const fileName = `${newName('slow')}.raw`
  await writeFile(join(place.importDirectory, fileName), randomBytes(8 * 1024 ** 2))
  const imported = { region: HOME, fileName, name: newName('slow') }
  const made = await root.native(
    'POST /v1/images/import',
    { path: '/v1/images/import', body: imported },
    'done',
  )
  const { state, reason } = await taskEnd(personOf(place), String(made.json.taskId))
  assert.equal(state, 'done', reason ?? '')
  const path = `/v1/images/${String(made.json.imageId)}/copy`
  const body = { region: HOME, targetRegions: [AWAY], bytesPerSecond: 65_536 }
  const copies: Copy[] = []
  while (copies.length < count) {
    const { json } = await root.native('POST /v1/images/:id/copy', { path, body }, 'done')
    copies.push((json.copies as [Copy])[0])
  }
  return copies as [Copy, Copy, Copy]
}

interface Copy {
  readonly imageId: string
  readonly taskId: string
}
