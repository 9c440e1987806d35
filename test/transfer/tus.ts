import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Upload as TusUpload, type UploadOptions } from 'tus-js-client'
import type { Server } from '../../demo/server.ts'
import { HOME } from '../e2e/failure-steps.ts'
import { signedNative } from '../e2e/wire.ts'
import type { Begun } from './transfer-place.ts'

type Change = Partial<UploadOptions> & { readonly metadata?: Record<string, string> }

export interface Sent extends Begun {
  /** Where it was sent, with the token in it. */
  readonly url: string
}

/**
 * Sends a file, or the bytes given, with the protocol's own client, and answers what the server makes of it. With
 * `uploadUrl` it goes on with an upload that is there.
 */
export async function sendByTus(
  server: Pick<Server, 'endpoint' | 'key'>,
  source: string | Buffer,
  name: string,
  change: Change = {},
): Promise<Sent> {
  const file = typeof source === 'string' ? createReadStream(source) : source
  const uploadSize = typeof source === 'string' ? (await stat(source)).size : source.length
  return new Promise((resolve, reject) => {
    const upload: TusUpload = new TusUpload(file, {
      endpoint: new URL('/v1/uploads', server.endpoint).href,
      uploadSize,
      retryDelays: null,
      storeFingerprintForResuming: false,
      ...change,
      metadata: { name, region: HOME, ...change.metadata },
      onBeforeRequest(request) {
        // The creation alone is signed: every other request has the token in its path.
        if (request.getMethod() !== 'POST') return
        const { headers } = signedNative(server.endpoint, server.key, 'POST', '/v1/uploads')
        for (const [name, value] of Object.entries(headers))
          if (name !== 'host') request.setHeader(name, value)
      },
      onSuccess: ({ lastResponse }) =>
        resolve({
          url: upload.url ?? '',
          imageId: lastResponse.getHeader('calotype-image-id') ?? '',
          taskId: lastResponse.getHeader('calotype-task-id') ?? '',
        }),
      onError: reject,
    })
    upload.start()
  })
}
