import { randomUUID } from 'node:crypto'
import { connect, createServer, type Socket } from 'node:net'
import { CreateBucketCommand, ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3'
import type { ObjectsPlace } from './open.ts'

/** Where a gateway is and what opens it: what `test/ceph` answers has this shape. */
export interface Gateway {
  readonly endpoint: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
}

export type S3Place = Extract<ObjectsPlace, { kind: 's3' }>

function clientOf(gateway: Gateway): S3Client {
  const { endpoint, region, accessKeyId, secretAccessKey } = gateway
  return new S3Client({
    ...{ endpoint, region, forcePathStyle: true },
    credentials: { accessKeyId, secretAccessKey },
    requestChecksumCalculation: 'WHEN_REQUIRED',
  })
}

export async function makeBucket(gateway: Gateway, bucket: string): Promise<void> {
  await clientOf(gateway).send(new CreateBucketCommand({ Bucket: bucket }))
}

/** A new prefix in a bucket. */
export function newPlace(gateway: Gateway, bucket: string): S3Place {
  const { endpoint, region, accessKeyId, secretAccessKey } = gateway
  return {
    ...{ kind: 's3', endpoint, region, bucket, accessKeyId, secretAccessKey },
    prefix: `test/${randomUUID()}`,
    isPathStyle: true,
  }
}

/** Keys of uploads in parts that are neither complete nor abandoned. */
export async function listUploads(place: S3Place): Promise<string[]> {
  const answer = await clientOf(place).send(
    new ListMultipartUploadsCommand({ Bucket: place.bucket, Prefix: place.prefix }),
  )
  return (answer.Uploads ?? []).map(({ Key }) => Key ?? '')
}

/** A way to a gateway that can be disturbed. */
export interface Proxy {
  readonly endpoint: string
  /** Called with bytes on the way to the gateway; what it answers goes on, undefined cuts the connection. */
  onRequest: (bytes: Buffer) => Buffer | undefined
  /** Called with each answer's bytes; false cuts the connection. */
  onAnswer: (bytes: Buffer) => boolean
  close(): Promise<void>
}

export async function startProxy(gateway: Gateway): Promise<Proxy> {
  const { hostname, port } = new URL(gateway.endpoint)
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect(Number(port), hostname)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one)
      one.on('error', () => {})
      one.on('close', () => {
        sockets.delete(one)
        other.destroy()
      })
    }
    near.on('data', (bytes: Buffer) => {
      const sent = proxy.onRequest(bytes)
      if (sent === undefined) near.destroy()
      else far.write(sent)
    })
    far.on('data', (bytes: Buffer) => (proxy.onAnswer(bytes) ? near.write(bytes) : near.destroy()))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const proxy: Proxy = {
    endpoint: `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`,
    onRequest: (bytes) => bytes,
    onAnswer: () => true,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return proxy
}
