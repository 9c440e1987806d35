import type { SignedReport } from '../../image/cleaning.ts'
import { Fault } from '../../image/fault.ts'
import { type Canonical, encodeCanonical } from '../../store/canonical.ts'
import type { ImageContent } from '../../store/image.ts'
import type { OpenDomain } from '../../store/open-domain.ts'

/** A report as its image keeps it: the very bytes that `calotype image report --json` prints and a signature is checked by. */
export function writeReport(report: SignedReport): string {
  return encodeCanonical(report as unknown as Canonical).toString('utf8')
}

/** The report of an image, with the keys of its domain; undefined for one that was never cleaned. Fault 'corrupt'. */
export function readReport({ report }: ImageContent, domain: OpenDomain): SignedReport | undefined {
  if (report === null) return undefined
  const text = domain.openReport(report)
  if (text === undefined) {
    throw new Fault('corrupt', 'The cleaning report of the image is damaged.', { subject: 'image' })
  }
  return JSON.parse(text) as SignedReport
}
