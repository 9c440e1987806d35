import type { ExportWish } from '../../../app/transfer-contract.ts'
import { EXPORT_FORMATS } from '../../../disk/layouts/contract.ts'
import { Fault } from '../../../image/fault.ts'
import { spellId } from '../../../image/ids.ts'
import { flag, id, integer, object, oneOf, optional, text, withDefault } from '../fields.ts'
import { type Route, route } from '../route.ts'
import { place } from './common.ts'

const INVENTORY_LENGTH_MAX = 900_000

interface Told {
  readonly disk: number | undefined
  readonly format: (typeof EXPORT_FORMATS)[number] | undefined
  readonly compress: 'zstd' | undefined
  readonly bundle: { readonly inventory: string } | undefined
}

function wished({ disk, format, compress, bundle }: Told): ExportWish['what'] {
  if (bundle !== undefined) {
    if (disk === undefined && format === undefined && compress === undefined)
      return { is: 'bundle', inventory: bundle.inventory }
    const message =
      "A bundle is a whole image in a format of its own: leave out 'disk', 'format', 'compress'."
    throw new Fault('invalid', message, { field: 'bundle' })
  }
  if (format === undefined) {
    const message = `Say what to make: 'format' (one of ${EXPORT_FORMATS.join(', ')}), or 'bundle'.`
    throw new Fault('invalid', message, { field: 'format' })
  }
  return { is: 'disk', diskIndex: disk ?? 0, format, compress }
}

export const exportRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/images/:id/exports',
    useCase: 'exports.create',
    about:
      'A link to download an available image: one of its disks (`disk`, the first is 0) as a file in `format`, or as a `bundle` for another installation, whose `inventory` says what it has. Whoever has the link may download until it expires (Downloads, above). `digest`: a task reads all of it once, and its output says `sizeBytes` and `sha256`; the download waits for its end. `sizeBytes` is null where it is known only once all was sent. `signer`: of a bundle, the key that it is signed with; whoever takes it in wants to know it.',
    status: 201,
    fields: {
      ...place,
      id: id('image'),
      disk: optional(integer(0, 1000)),
      format: optional(oneOf(...EXPORT_FORMATS)),
      compress: optional(oneOf('zstd')),
      bundle: optional(object({ inventory: text(INVENTORY_LENGTH_MAX, { lengthMin: 1 }) })),
      digest: withDefault(flag, false),
    },
    async run({ app, caller, region, origin }, parameters) {
      const link = await app.exports.create(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        imageId: parameters.id,
        what: wished(parameters),
        withDigest: parameters.digest,
      })
      const path = `/v1/downloads/${link.token}/${encodeURIComponent(link.fileName.toWellFormed())}`
      return {
        path,
        url: `${origin}${path}`,
        fileName: link.fileName,
        sizeBytes: link.sizeBytes ?? null,
        expiresAtMs: link.expiresAtMs,
        signer: link.signer ?? null,
        taskId: link.taskId === undefined ? null : spellId('task', link.taskId, 'native'),
      }
    },
  }),
  route({
    method: 'GET',
    path: '/v1/inventory',
    useCase: 'exports.inventory',
    about:
      'What another installation has to know of this region to make bundles for it: as `inventory`, a text to be handed on as it is.',
    status: 200,
    fields: place,
    async run({ app, caller, region }, parameters) {
      const where = { regionId: region(parameters.region), projectId: parameters.project }
      return { inventory: await app.exports.inventory(caller, where) }
    },
  }),
]
