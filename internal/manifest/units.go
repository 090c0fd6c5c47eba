package manifest

import (
	"cmp"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time written with its unit: 20ms, 1.5s, 1m30s.
// Never negative. Convert with time.Duration(d).
type Duration time.Duration

// Bandwidth is bit/s, written with a decimal unit: 800bps, 64kbps, 100Mbps,
// 1.5Gbps. Case counts, since Mbps and mbps are a billion apart.
type Bandwidth uint64

// Percent is written 1% or 0.5% and holds 1 or 0.5; from 0 to 100.
type Percent float64

// Fraction returns p as a share of one: 1% is 0.01.
func (p Percent) Fraction() float64 { return float64(p) / 100 }

// codedError gives a fault its code when a text form is refused.
type codedError struct {
	code, msg string
}

func (e *codedError) Error() string { return e.msg }

func unitErrorf(format string, args ...any) error {
	return &codedError{CodeUnit, fmt.Sprintf(format, args...)}
}

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	// time.ParseDuration takes a bare 0; a duration without unit is refused
	// here even then, so that nobody learns to leave it out.
	if strings.Trim(s, "0123456789.+-") == "" {
		return unitErrorf("duration %q has no unit, write for example %s", s, cmp.Or(strings.TrimLeft(s, "+-"), "20")+"ms")
	}
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return unitErrorf("%q is not a duration, write for example 20ms, 1.5s or 5m", s)
	case v < 0:
		return fmt.Errorf("duration %s is negative", s)
	}
	*d = Duration(v)
	return nil
}

// bandwidthUnits is ordered from large to small for String.
var bandwidthUnits = []struct {
	suffix string
	bits   uint64
}{{"Gbps", 1e9}, {"Mbps", 1e6}, {"kbps", 1e3}, {"bps", 1}}

func (b Bandwidth) String() string {
	for _, u := range bandwidthUnits {
		if uint64(b)%u.bits == 0 && (b != 0 || u.bits == 1) {
			return strconv.FormatUint(uint64(b)/u.bits, 10) + u.suffix
		}
	}
	panic("unreachable: every bandwidth is a multiple of 1bps")
}

// MarshalText implements encoding.TextMarshaler.
func (b Bandwidth) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bandwidth) UnmarshalText(text []byte) error {
	s := string(text)
	for _, u := range bandwidthUnits {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok || !decimal(number) {
			continue
		}
		// Exact arithmetic: 0.1Gbps is 100,000,000 and not a bit less.
		bits, ok := new(big.Rat).SetString(number)
		if !ok {
			continue
		}
		bits.Mul(bits, new(big.Rat).SetUint64(u.bits))
		if !bits.IsInt() || !bits.Num().IsUint64() {
			return fmt.Errorf("bandwidth %q is not a whole number of bit/s below 2^64", s)
		}
		*b = Bandwidth(bits.Num().Uint64())
		return nil
	}
	if decimal(s) {
		return unitErrorf("bandwidth %q has no unit, write for example %sMbps", s, s)
	}
	return unitErrorf("%q is not a bandwidth, write for example 64kbps, 100Mbps or 1.5Gbps", s)
}

func (p Percent) String() string { return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%" }

// MarshalText implements encoding.TextMarshaler.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Percent) UnmarshalText(b []byte) error {
	s := string(b)
	number, ok := strings.CutSuffix(s, "%")
	switch {
	case !ok && decimal(s):
		return unitErrorf("percentage %q has no unit, write for example %s%%", s, s)
	case !decimal(number):
		return unitErrorf("%q is not a percentage, write for example 1%% or 0.5%%", s)
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || v > 100 {
		return fmt.Errorf("percentage %s is not between 0%% and 100%%", s)
	}
	*p = Percent(v)
	return nil
}

// decimal reports whether s is digits with at most one point inside: no sign,
// exponent or fraction bar.
func decimal(s string) bool {
	whole, part, point := strings.Cut(s, ".")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return digits(whole) && (!point || digits(part))
}
