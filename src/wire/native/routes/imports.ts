import type { ImportFrom } from '../../../app/transfer-contract.ts'
import { Fault } from '../../../image/fault.ts'
import { spellId } from '../../../image/ids.ts'
import type { RemoteSource } from '../../../intake/contract.ts'
import { object, optional, text } from '../fields.ts'
import { importFields, importWish } from '../import-fields.ts'
import { type Route, route } from '../route.ts'

const URL_LENGTH_MAX = 8192

const s3 = object({
  endpoint: optional(text(URL_LENGTH_MAX, { lengthMin: 1 })),
  region: optional(text(128, { lengthMin: 1 })),
  keyId: text(256, { lengthMin: 1 }),
  secret: text(1024, { lengthMin: 1 }),
})

interface Told {
  readonly fileName: string | undefined
  readonly url: string | undefined
  readonly s3: RemoteSource['s3'] | undefined
}

function sourceOf({ fileName, url, s3: keys }: Told): ImportFrom {
  if ((fileName === undefined) === (url === undefined)) {
    const message = "Say where the file is: 'fileName' (in the server's import folder) or 'url', one of them."
    throw new Fault('invalid', message, { field: 'fileName' })
  }
  if (url === undefined) {
    if (keys !== undefined) throw new Fault('invalid', "'s3' goes with 'url' alone.", { field: 's3' })
    return { is: 'file', fileName: fileName ?? '' }
  }
  return { is: 'url', source: keys === undefined ? { url } : { url, s3: keys } }
}

export const importRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/images/import',
    useCase: 'images.import',
    about:
      'Makes an image of a disk file in the import folder of the server (`fileName`), or at an address outside (`url`: http, https, or s3 with the keys in `s3`). What the file is is found out before anything opens it; a file that is refused fails the task, and its reason says what to do. `format`: the file is refused where it is found to be anything else. `checksum`: of the file as it comes. What is not said is taken from the file. `signer`: whose bundles are believed beside those of this installation.',
    status: 202,
    fields: {
      fileName: optional(text(255, { lengthMin: 1 })),
      url: optional(text(URL_LENGTH_MAX, { lengthMin: 1 })),
      s3: optional(s3),
      ...importFields,
    },
    async run({ app, caller, region }, parameters) {
      const { fileName, url, s3: keys, ...rest } = parameters
      const from = sourceOf({ fileName, url, s3: keys })
      const made = await app.images.import(caller, { ...importWish(rest, region(rest.region)), from })
      return {
        imageId: spellId('image', made.imageId, 'native'),
        taskId: spellId('task', made.taskId, 'native'),
      }
    },
  }),
]
