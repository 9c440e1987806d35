import assert from 'node:assert/strict'
import type { ShownImageWhole, ShownTask } from '../../src/wire/native/show.ts'
import { good, type Person, taskEnd } from '../e2e/small-place.ts'
import { HOME, newName } from '../e2e/valid-calls.ts'
import type { Answer } from '../e2e/wire.ts'

export const DOORS = ['native', 'uhost', 'wuying'] as const
export type DoorName = (typeof DOORS)[number]

/** What a door said to an import: an image is being made, or why not, without what is another in every answer. */
export type Asked =
  | { readonly is: 'begun'; readonly imageId: string }
  | { readonly is: 'refused'; readonly code: string; readonly message: string }

export interface Ended {
  readonly image: ShownImageWhole
  readonly task: ShownTask
}

/** A person who keeps every word of every answer, for searching. */
export function listening(person: Person, answers: string[]): Person {
  const kept = async (answer: Promise<Answer>) => {
    const { headers, text } = await answer
    answers.push(JSON.stringify(headers), text)
    return answer
  }
  return {
    wuying: (...given) => kept(person.wuying(...given)),
    uhost: (...given) => kept(person.uhost(...given)),
    native: (...given) => kept(person.native(...given)),
  }
}

/** Asks a door to make an image of what is at an address, with as little else as it takes. */
export async function askToImport(person: Person, door: DoorName, url: string): Promise<Asked> {
  const name = newName('from-outside')
  switch (door) {
    case 'native':
      return askNative(person, { url, name, osType: 'Linux' })
    case 'uhost': {
      const { json } = await person.uhost('ImportCustomImage', {
        ...{ Region: HOME, ImageName: name, UFileUrl: url, Format: 'RAW', Auth: 'true' },
        ...{ OsType: 'Linux', OsName: 'Other' },
      })
      if (json.RetCode === 0)
        return { is: 'begun', imageId: String(json.ImageId).replace(/^uimage-/, 'img-') }
      return { is: 'refused', code: String(json.RetCode), message: String(json.Message) }
    }
    case 'wuying': {
      const wish = { RegionId: HOME, ImageName: name, OssObjectPath: url, OsType: 'Linux' }
      const { status, json } = await person.wuying('UploadImage', wish)
      if (status === 200) return { is: 'begun', imageId: String(json.ImageId).replace(/^m-/, 'img-') }
      assert.equal(status, 400)
      return { is: 'refused', code: String(json.Code), message: String(json.Message) }
    }
    default:
      return door satisfies never
  }
}

/** The same with our own door's other fields. */
export async function askNative(
  person: Person,
  wish: Readonly<Record<string, unknown>> & { readonly name: string },
): Promise<Asked> {
  const { status, json } = await person.native('POST', '/v1/images/import', {
    body: { region: HOME, ...wish },
  })
  if (status === 202) return { is: 'begun', imageId: String(json.imageId) }
  const { kind, subject, reason, message } = json.error as Readonly<Record<string, string>>
  assert.equal(status, 400, String(message))
  return { is: 'refused', code: [kind, subject, reason].join(' '), message: String(message) }
}

/** Waits for the end of what was begun. */
export async function endOf(person: Person, asked: Asked): Promise<Ended> {
  assert.ok(asked.is === 'begun', JSON.stringify(asked))
  const look = () =>
    good<ShownImageWhole>(person.native('GET', `/v1/images/${asked.imageId}`, { query: { region: HOME } }))
  const { taskId } = await look()
  // Of an image that was made, or failed, already, only the task knows.
  const task = await taskEnd(person, taskId ?? (await taskOf(person, asked.imageId)))
  return { image: await look(), task }
}

async function taskOf(person: Person, imageId: string): Promise<string> {
  const { tasks } = await good<{ tasks: ShownTask[] }>(
    person.native('GET', '/v1/tasks', { query: { kind: 'import-image', limit: '500' } }),
  )
  const task = tasks.find((one) => one.imageId === imageId)
  assert.ok(task !== undefined, `no task made ${imageId}`)
  return task.id
}

/** Of what has to come well; answers the image. */
export async function imageOf(person: Person, asked: Asked): Promise<ShownImageWhole> {
  const { image, task } = await endOf(person, asked)
  assert.equal(task.state, 'done', task.reason ?? '')
  assert.equal(image.state, 'available')
  return image
}

/** Of what has to fail; answers why, which image and task say alike. */
export async function reasonOf(person: Person, asked: Asked, faultKind = 'invalid'): Promise<string> {
  const { image, task } = await endOf(person, asked)
  assert.equal(task.state, 'failed', `${image.name} came well`)
  assert.equal(task.faultKind, faultKind, task.reason ?? '')
  assert.deepEqual([image.state, image.reason, image.digest], ['failed', task.reason, null])
  return task.reason ?? ''
}
