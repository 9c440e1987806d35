import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import type { RequestListener } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** A certificate for 127.0.0.1 that nobody signed but itself. Answers the paths of both parts. */
export async function makeCertificate(folder: string, name: string) {
  const files = { key: join(folder, `${name}.key`), certificate: join(folder, `${name}.pem`) }
  await run('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'],
    ...['-keyout', files.key, '-out', files.certificate],
  ])
  return files
}

/** An HTTPS server on loopback with that certificate, until the end of the test. */
export async function startTls(
  t: TestContext,
  files: { readonly key: string; readonly certificate: string },
  listener: RequestListener,
): Promise<{ readonly origin: string; readonly host: string }> {
  const options = { key: await readFile(files.key), cert: await readFile(files.certificate) }
  const server = createServer(options, listener)
  server.on('tlsClientError', () => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return { host, origin: `https://${host}` }
}
