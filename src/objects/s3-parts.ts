import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { hasStatus } from './s3-fault.ts'

const ABORT_MS_MAX = 10_000

export interface PartsOptions {
  readonly bucket: string
  readonly key: string
  readonly metadata: Record<string, string>
  /** At least 5 MiB, which is the service's own limit for all parts but the last. */
  readonly partBytes: number
  readonly signal: AbortSignal | undefined
}

/**
 * Puts an object in parts, one after the other. False, with nothing left behind, if the object is there already.
 * Not every gateway knows a conditional completion (Ceph 16 does not and would replace the object): so we also look
 * ourselves, before the bytes go and before the completion. There two writers of one name at the same moment may both
 * hear that they stored it; with bytes named by their content that changes nothing.
 */
export async function putParts(client: S3Client, bytes: Uint8Array, options: PartsOptions): Promise<boolean> {
  const { bucket, key, metadata, partBytes, signal } = options
  const target = { Bucket: bucket, Key: key }
  const call = signal === undefined ? {} : { abortSignal: signal }
  const isThere = () =>
    client.send(new HeadObjectCommand(target), call).then(
      () => true,
      (error: unknown) => {
        if (hasStatus(error, 404)) return false
        throw error
      },
    )
  if (await isThere()) return false
  const { UploadId } = await client.send(
    new CreateMultipartUploadCommand({ ...target, Metadata: metadata }),
    call,
  )
  const upload = { ...target, UploadId }
  try {
    const Parts: { PartNumber: number; ETag: string | undefined }[] = []
    for (let offset = 0; offset < bytes.length; offset += partBytes) {
      const PartNumber = Parts.length + 1
      const Body = bytes.subarray(offset, offset + partBytes)
      const { ETag } = await client.send(new UploadPartCommand({ ...upload, PartNumber, Body }), call)
      Parts.push({ PartNumber, ETag })
    }
    if (await isThere()) {
      await abandon(client, upload)
      return false
    }
    await client.send(
      new CompleteMultipartUploadCommand({ ...upload, IfNoneMatch: '*', MultipartUpload: { Parts } }),
      call,
    )
    return true
  } catch (error) {
    await abandon(client, upload)
    if (hasStatus(error, 412)) return false
    throw error
  }
}

/** Removes the parts of uploads below `keyPrefix` that nobody completed. No other process may be writing there. */
export async function abandonUploads(client: S3Client, bucket: string, keyPrefix: string): Promise<void> {
  let position: { KeyMarker?: string; UploadIdMarker?: string } | undefined = {}
  while (position !== undefined) {
    const page: Awaited<ReturnType<typeof listUploads>> = await listUploads(client, {
      Bucket: bucket,
      Prefix: keyPrefix,
      ...position,
    })
    for (const { Key, UploadId } of page.Uploads ?? []) {
      await client.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId }))
    }
    position =
      page.IsTruncated && page.NextKeyMarker !== undefined
        ? { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker ?? '' }
        : undefined
  }
}

function listUploads(client: S3Client, input: ConstructorParameters<typeof ListMultipartUploadsCommand>[0]) {
  return client.send(new ListMultipartUploadsCommand(input))
}

/** The caller's signal may have fired already, so this has a time of its own. What it misses `clean` finds. */
async function abandon(
  client: S3Client,
  upload: { Bucket: string; Key: string; UploadId: string | undefined },
): Promise<void> {
  await client
    .send(new AbortMultipartUploadCommand(upload), { abortSignal: AbortSignal.timeout(ABORT_MS_MAX) })
    .catch(() => {})
}
