import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, suite, test } from 'node:test'
import OpenApiClient, { Config, OpenApiRequest, Params } from '@alicloud/openapi-client'
import RpcClient from '@alicloud/pop-core'
import { RuntimeOptions } from '@alicloud/tea-util'
import { type Bench, createBench, fakeMachine } from './fixture.ts'
import { KEY } from './fixture-requests.ts'

/** The official clients, unchanged but for their endpoint, against this door behind a bare HTTP server. */
suite('official clients', () => {
  let bench: Bench
  let server: Server
  let host: string

  before(async () => {
    bench = createBench()
    server = createServer(async (request, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      bench.nowMs = Date.now()
      const answer = await bench.door.handle({
        method: request.method ?? '',
        url: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks),
        sourceIp: '127.0.0.1',
        secureTransport: false,
        requestId: randomUUID().toUpperCase(),
        signal: new AbortController().signal,
      })
      response.writeHead(answer.status, answer.headers).end(answer.body)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  after(() => {
    server.closeAllConnections()
    server.close()
  })

  const NAMES = {
    RegionId: 'cn-hangzhou',
    ImageName: '镜像:v1_a-b',
    Description: "a b+c&d=e/f?g~h*i(j)k!l'm%20n é😀",
  }

  function openApi(signatureAlgorithm?: string) {
    const config = new Config({
      accessKeyId: KEY.keyId,
      accessKeySecret: KEY.secret,
      endpoint: host,
      protocol: 'HTTP',
      ...(signatureAlgorithm === undefined ? {} : { signatureAlgorithm }),
    })
    // Node gives a CommonJS module as a whole: its class is one level down.
    const client = new OpenApiClient.default(config)
    return async (action: string, parameters: Record<string, string>, inBody = false) => {
      const params = new Params({
        action,
        version: '2020-09-30',
        protocol: 'HTTP',
        pathname: '/',
        method: 'POST',
        authType: 'AK',
        style: 'RPC',
        reqBodyType: 'formData',
        bodyType: 'json',
      })
      const request = new OpenApiRequest(inBody ? { body: parameters } : { query: parameters })
      const answer = (await client.callApi(params, request, new RuntimeOptions({}))) as {
        body: Record<string, unknown>
      }
      return answer.body
    }
  }

  for (const [name, algorithm, inBody] of [
    ['openapi-client, ACS3, query', undefined, false],
    ['openapi-client, ACS3, form', undefined, true],
    ['openapi-client, older scheme', 'v2', false],
  ] as const) {
    test(name, async () => {
      const call = openApi(algorithm)
      const machine = fakeMachine('one')
      bench.app.machineRows.splice(0, Number.POSITIVE_INFINITY, machine)
      const made = await call('CreateImage', { ...NAMES, DesktopId: `ecd-${machine.id}` }, inBody)
      assert.match(String(made.ImageId), /^m-[0-9a-z]{17}$/)
      const input = bench.app.calls.at(-1)?.input as { name: string; description: string }
      assert.equal(input.name, NAMES.ImageName)
      assert.equal(input.description, NAMES.Description)
      await assert.rejects(call('CreateImage', { ...NAMES, DesktopId: 'ecd-none' }, inBody), {
        code: 'InvalidDesktopId.NotFound',
      })
    })
  }

  for (const method of ['GET', 'POST'] as const) {
    test(`pop-core, ${method}`, async () => {
      const options = { accessKeyId: KEY.keyId, accessKeySecret: KEY.secret, endpoint: `http://${host}` }
      const client = new RpcClient({ ...options, apiVersion: '2020-09-30' })
      const machine = fakeMachine('one')
      bench.app.machineRows.splice(0, Number.POSITIVE_INFINITY, machine)
      const parameters = { ...NAMES, DesktopId: `ecd-${machine.id}`, AutoCleanUserdata: false }
      const made = await client.request<{ ImageId: string }>('CreateImage', parameters, { method })
      assert.match(made.ImageId, /^m-[0-9a-z]{17}$/)
      const input = bench.app.calls.at(-1)?.input as { name: string; description: string }
      assert.equal(input.description, NAMES.Description)
      await assert.rejects(
        client.request('CreateImage', { RegionId: 'mars', DesktopId: parameters.DesktopId }, { method }),
        {
          code: 'InvalidRegionId.NotFound',
        },
      )
      const wrong = new RpcClient({ ...options, accessKeySecret: 'wrong', apiVersion: '2020-09-30' })
      await assert.rejects(wrong.request('DescribeRegions', { RegionId: 'cn-hangzhou' }, { method }), {
        code: 'SignatureDoesNotMatch',
      })
    })
  }
})
