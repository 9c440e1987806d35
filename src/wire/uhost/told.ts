/** What CreateUHostInstance was told and DescribeUHostInstance says again; it has no other effect. */
export interface Told {
  readonly ChargeType: string
  readonly NetCapability: string
  readonly UHostType: string
  readonly UHostFamily: string
  readonly MinimalCpuPlatform: string
}

const UNTOLD: Told = {
  ChargeType: 'Dynamic',
  NetCapability: 'Normal',
  UHostType: '',
  UHostFamily: '',
  MinimalCpuPlatform: 'Intel/Auto',
}

/** A machine's details are shared by the doors; ours are behind one key. */
export function keepTold(told: Told): Readonly<Record<string, unknown>> {
  return { uhost: told }
}

/** For a machine made through another door: a charge by use, a normal network. */
export function toldOf(details: Readonly<Record<string, unknown>>): Told {
  return typeof details.uhost === 'object' && details.uhost !== null
    ? { ...UNTOLD, ...details.uhost }
    : UNTOLD
}
