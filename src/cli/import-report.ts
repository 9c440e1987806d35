import assert from 'node:assert/strict'
import type { ShownImageWhole, ShownTask } from '../wire/native/show.ts'
import { formatFacts } from './facts.ts'
import { CommandFailure, ServerRefusal } from './failure.ts'
import { formatBytes } from './format.ts'
import type { Session } from './session.ts'
import { requireDone } from './wait.ts'

type Fact = readonly [name: string, value: string | null]

/** What was found of the file that an image was made of, beside what the image says; nothing for other images. */
export function importFacts({ imported }: Pick<ShownImageWhole, 'imported'>): readonly Fact[] {
  if (imported === null) return []
  const { format, fileBytes, sha256, osType, osName, firmware } = imported
  const system = [osName ?? osType, firmware].filter((one) => one !== null).join(', ')
  return [
    ['made of', `${format}, ${formatBytes(fileBytes)}`],
    ['sha256', sha256],
    ['found in it', system === '' ? 'nothing that says what system it is' : system],
  ]
}

export interface Imported {
  readonly imageId: string
  readonly taskId: string
  readonly uploadId?: string
  readonly tasks: readonly ShownTask[]
  /** Whether the caller said what system it is. */
  readonly isOsTypeSaid: boolean
}

type Place = Readonly<Record<'region' | 'project', string | undefined>>

/** Of an import that is done. */
export async function printImported(
  session: Session,
  query: Place,
  { isOsTypeSaid, ...made }: Imported,
): Promise<void> {
  const image = await getImage(session, query, made.imageId)
  session.print({ ...made, image }, () => {
    // A bundle brings its own system along: nothing was looked for, and nothing assumed.
    const isAssumed = !isOsTypeSaid && image.imported?.osType === null
    const osType = isAssumed ? `${image.osType} (assumed)` : image.osType
    const facts = formatFacts([
      ['name', image.name],
      ['system', [osType, image.osName, image.config.firmware].filter(Boolean).join(', ')],
      ...importFacts(image),
      ...image.disks.map(
        (disk): Fact => [`disk ${disk.index}`, `${formatBytes(disk.sizeBytes)} ${disk.bus}`],
      ),
      ['data', formatBytes(image.dataBytes)],
    ])
    return `Image ${image.id} is available.\n${facts}`
  })
}

/** Of an import that was waited for and is not done. Throws CommandFailure, which says why, and what to do about the image. */
export async function reportFailed(session: Session, query: Place, made: Imported): Promise<never> {
  const { imageId, taskId, uploadId, tasks } = made
  const image = await getImage(session, query, imageId).catch((error: unknown) => {
    // Somebody was faster, and has deleted it.
    if (error instanceof ServerRefusal && error.kind === 'absent') return null
    throw error
  })
  const [task] = tasks
  if (session.isJson) session.print({ imageId, taskId, uploadId, task, image }, () => '')
  try {
    requireDone(tasks)
  } catch (error) {
    if (!(error instanceof CommandFailure) || image?.state !== 'failed') throw error
    const why = error.message.replace(/([^.!?…])$/, '$1.')
    const message = `${why} Delete the failed image: calotype image delete ${imageId}`
    throw new CommandFailure(error.exitCode, message, { cause: error })
  }
  assert.fail('a task that is done has not failed')
}

const getImage = ({ client }: Session, query: Place, imageId: string): Promise<ShownImageWhole> =>
  client.call<ShownImageWhole>('GET', `/v1/images/${encodeURIComponent(imageId)}`, { query })
