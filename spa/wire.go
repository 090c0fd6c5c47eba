package spa

import (
	"google.golang.org/protobuf/types/known/durationpb"

	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
)

var wireCodes = map[Code]dmscv1.DenialCode{
	NotGranted:   dmscv1.DenialCode_DENIAL_CODE_NOT_GRANTED,
	WrongHolder:  dmscv1.DenialCode_DENIAL_CODE_WRONG_HOLDER,
	OutOfScope:   dmscv1.DenialCode_DENIAL_CODE_OUT_OF_SCOPE,
	WrongGateway: dmscv1.DenialCode_DENIAL_CODE_WRONG_GATEWAY,
	Malformed:    dmscv1.DenialCode_DENIAL_CODE_MALFORMED,
	Reserved:     dmscv1.DenialCode_DENIAL_CODE_RESERVED,
	RateLimited:  dmscv1.DenialCode_DENIAL_CODE_RATE_LIMITED,
}

func toWire(verdicts []Verdict) []*dmscv1.PrefixVerdict {
	var out []*dmscv1.PrefixVerdict
	for _, v := range verdicts {
		w := &dmscv1.PrefixVerdict{Prefix: v.Prefix, Granted: v.Granted, Code: wireCodes[v.Code], Reason: v.Reason, Final: v.Final}
		if v.RetryAfter > 0 {
			w.RetryAfter = durationpb.New(v.RetryAfter)
		}
		out = append(out, w)
	}
	return out
}

// fromWire reads verdicts. A denial whose code is of a later version is a
// denial all the same.
func fromWire(verdicts []*dmscv1.PrefixVerdict) []Verdict {
	var out []Verdict
	for _, w := range verdicts {
		v := Verdict{Prefix: w.GetPrefix(), Granted: w.GetGranted(), Reason: w.GetReason(), Final: w.GetFinal(), RetryAfter: w.GetRetryAfter().AsDuration()}
		if !v.Granted {
			v.Code = NotGranted
			for code, number := range wireCodes {
				if number == w.GetCode() {
					v.Code = code
				}
			}
		}
		out = append(out, v)
	}
	return out
}
