import { Readable } from 'node:stream'
import type { Fault } from '../image/fault.ts'
import type { RemoteSource } from './contract.ts'
import type { Resume } from './fetch-answer.ts'
import { parseTarget, refuseUrl, type Target } from './fetch-url.ts'

/** One object of a bucket, and what opens it. */
export interface S3Object {
  readonly bucket: string
  readonly key: string
  /** Where its service is; the bucket is not in it yet. */
  readonly endpoint: Target
  /** True: `ENDPOINT/BUCKET/KEY`; false: the bucket is part of the host's name. */
  readonly isPathStyle: boolean
  readonly region: string
  readonly keyId: string
  readonly secret: string
}

const REGION_DEFAULT = 'us-east-1'
const CREDENTIAL_LENGTH_MAX = 1024

/**
 * `s3://BUCKET/KEY`: the key is taken as it stands, nothing in it is decoded. Without an endpoint it is AWS's of the
 * region. Services whose endpoints take the bucket only in the host's name are told by theirs; all others take it in the
 * path. Throws Fault 'invalid' 'request' reason 'url'; nothing of keys is in it.
 */
export function parseS3({ url, s3 }: RemoteSource): S3Object {
  if (s3 === undefined)
    throw refuseUrl('s3:// takes a key id and a secret. A public object has an https:// address.')
  const [, bucket = '', key = ''] = /^s3:\/\/([^/]*)\/(.*)$/is.exec(url) ?? []
  if (!/^[a-z0-9][a-z0-9._-]{1,254}$/i.test(bucket)) throw refuseUrl('It has to be s3://BUCKET/KEY.')
  if (/--x-s3$/i.test(bucket)) {
    throw refuseUrl('Directory buckets take sessions of their own: copy the file to another bucket first.')
  }
  const isKey = key !== '' && Buffer.byteLength(key) <= 1024 && key.isWellFormed() && !/[\p{Cc}?#]/u.test(key)
  if (!isKey || key.split('/').some((part) => part === '.' || part === '..')) {
    throw refuseUrl('Its key is empty, too long, or has ?, #, control characters or a part . or .. in it.')
  }
  const region = s3.region ?? REGION_DEFAULT
  if (!/^[a-z0-9-]{1,64}$/i.test(region)) throw refuseUrl('The region of the bucket is no name of a region.')
  for (const text of [s3.keyId, s3.secret]) {
    if (!/^[\x21-\x7e]+$/.test(text) || text.length > CREDENTIAL_LENGTH_MAX) {
      throw refuseUrl('The key id or the secret of the bucket is empty or damaged.')
    }
  }
  const endpoint = parseTarget(s3.endpoint ?? awsEndpoint(region))
  if (endpoint.url.pathname !== '/' || endpoint.url.search !== '') {
    throw refuseUrl('The endpoint of the bucket has to be http(s)://HOST or http(s)://HOST:PORT.')
  }
  const isPathStyle = !TAKES_BUCKET_IN_HOST.test(endpoint.url.hostname) || !/^[a-z0-9-]+$/.test(bucket)
  return { bucket, key, endpoint, isPathStyle, region, keyId: s3.keyId, secret: s3.secret }
}

/** A signed request for the object, or for what is behind `resume.offset` if it is still the same. Nothing is sent. */
export async function signS3(
  object: S3Object,
  resume: Resume | undefined,
): Promise<{ readonly target: Target; readonly headers: Readonly<Record<string, string>> }> {
  // Only where somebody needs it: loading it takes a fifth of a second.
  const { GetObjectCommand, S3Client } = await import('@aws-sdk/client-s3')
  let signed: SignedRequest | undefined
  const client = new S3Client({
    endpoint: object.endpoint.url.origin,
    region: object.region,
    credentials: { accessKeyId: object.keyId, secretAccessKey: object.secret },
    forcePathStyle: object.isPathStyle,
    maxAttempts: 1,
    // None of these may make requests of its own, or look for settings that are not the caller's.
    disableS3ExpressSessionAuth: true,
    followRegionRedirects: false,
    useArnRegion: false,
    useFipsEndpoint: false,
    useDualstackEndpoint: false,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // The client signs, the guard sends: what is answered is read by the same few lines as any other answer.
    requestHandler: {
      metadata: { handlerProtocol: 'http/1.1' },
      handle: async (request: SignedRequest) => {
        signed = request
        return { response: { statusCode: 204, headers: {}, body: Readable.from([]) } }
      },
    },
  })
  try {
    await client.send(
      new GetObjectCommand({
        ...{ Bucket: object.bucket, Key: object.key },
        ...(resume === undefined ? {} : { Range: `bytes=${resume.offset}-`, IfMatch: resume.etag }),
      }),
    )
  } catch {
    // No cause: the client's errors hold the whole request.
    throw refuseUrl('The request for the bucket could not be signed: check endpoint, region and bucket.')
  } finally {
    client.destroy()
  }
  if (signed === undefined) throw new Error('The S3 client sent nothing.')
  return { target: parseTarget(addressOf(signed)), headers: headersOf(signed) }
}

export function showS3({ bucket, key }: S3Object): string {
  return `s3://${bucket}/${key.length > 500 ? `${key.slice(0, 500)}…` : key}`
}

export function bucketElsewhere(): Fault {
  return refuseUrl('The bucket is in another region: give its region, or the endpoint of that region.')
}

interface SignedRequest {
  readonly protocol: string
  readonly hostname: string
  readonly port?: number | undefined
  readonly path: string
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>
  readonly headers: Readonly<Record<string, string>>
}

function addressOf({ protocol, hostname, port, path, query = {} }: SignedRequest): string {
  const search = Object.entries(query).map(
    ([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(String(value ?? ''))}`,
  )
  return `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}${search.length === 0 ? '' : `?${search.join('&')}`}`
}

/** The guard says the host by itself; it is the one that was signed. */
function headersOf({ headers }: SignedRequest): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'host'))
}

function awsEndpoint(region: string): string {
  return `https://s3.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`
}

/** AWS, Alibaba, Tencent, Volcano. Source: their documents on S3 clients. */
const TAKES_BUCKET_IN_HOST = /\.(amazonaws\.com(\.cn)?|aliyuncs\.com|myqcloud\.com|volces\.com)\.?$/
