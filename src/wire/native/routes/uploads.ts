import { Fault } from '../../../image/fault.ts'
import { type Field, integer, optional } from '../fields.ts'
import { importFields, importWish } from '../import-fields.ts'
import { type Route, route } from '../route.ts'
import { showUpload } from '../show-transfers.ts'
import { UPLOAD_BYTES_MAX, UPLOAD_ID, uploadPath } from '../upload-path.ts'
import { place } from './common.ts'

const uploadId: Field<string> = {
  takes: 'an upload id',
  isOptional: false,
  isList: false,
  parse(value) {
    if (typeof value === 'string' && UPLOAD_ID.test(value)) return value
    throw new Fault('absent', 'There is no such upload. List them to see their ids.', { subject: 'upload' })
  },
}
const one = { ...place, id: uploadId }

export const uploadRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/uploads',
    useCase: 'uploads.create',
    about:
      'Room for a file that becomes an image once all of it was sent: `location` is where to send it (Uploads, above), shown this once. Without `lengthBytes` the length is told with a later part. The other parameters are those of an import. A request of the tus protocol has no JSON, but `Upload-Length` or `Upload-Defer-Length`, and the parameters in `Upload-Metadata`.',
    status: 201,
    fields: { lengthBytes: optional(integer(1, UPLOAD_BYTES_MAX)), ...importFields },
    headers: (answer, origin) => {
      const { location, expiresAtMs } = answer as { location: string; expiresAtMs: number }
      return { location: `${origin}${location}`, 'upload-expires': new Date(expiresAtMs).toUTCString() }
    },
    async run({ app, caller, region }, { lengthBytes, ...rest }) {
      const wish = importWish(rest, region(rest.region))
      const { upload, token } = await app.uploads.create(caller, { ...wish, lengthBytes })
      return {
        uploadId: upload.id,
        location: uploadPath(token),
        lengthBytes: upload.lengthBytes ?? null,
        offsetBytes: upload.offsetBytes,
        expiresAtMs: upload.expiresAtMs,
      }
    },
  }),
  route({
    method: 'GET',
    path: '/v1/uploads',
    useCase: 'uploads.list',
    about: "The project's uploads in a region that are under way, were refused or were received of late.",
    status: 200,
    fields: place,
    async run({ app, caller, region }, parameters) {
      const where = { regionId: region(parameters.region), projectId: parameters.project }
      const uploads = await app.uploads.list(caller, where)
      return { total: uploads.length, uploads: uploads.map(showUpload) }
    },
  }),
  route({
    method: 'GET',
    path: '/v1/uploads/:id',
    useCase: 'uploads.list',
    about:
      'One upload, by its id of 17 characters, which is no secret: `state` is `receiving`, `received` or `refused`.',
    status: 200,
    fields: one,
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, id } = parameters
      const where = { regionId: region(regionName), projectId, uploadId: id }
      return showUpload(await app.uploads.get(caller, where))
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/uploads/:id',
    useCase: 'uploads.remove',
    about:
      'Gives an upload up and takes away what came of it. One that was received whole is an image by now.',
    status: 200,
    fields: one,
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, id } = parameters
      await app.uploads.remove(caller, { regionId: region(regionName), projectId, uploadId: id })
      return { uploadId: id }
    },
  }),
]
