package measure

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// serving is HealthCheckResponse.SERVING of grpc.health.v1.
const serving = 1

// askGRPC calls grpc.health.v1.Health/Check, by hand, so that the connection
// is kept and measured like those of the other targets. The service is the
// path without its slash, "/" being the whole server: what Envoy asks, too.
func (d *Detector) askGRPC(ctx context.Context, t Target) error {
	message := protowire.AppendTag(nil, 1, protowire.BytesType)
	message = protowire.AppendString(message, strings.TrimPrefix(t.HealthPath, "/"))
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	frame = append(frame, message...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+t.Address+"/grpc.health.v1.Health/Check", strings.NewReader(string(frame)))
	if err != nil {
		return err
	}
	req.Header.Set("content-type", "application/grpc")
	req.Header.Set("te", "trailers")
	resp, err := d.http2.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDetectBody))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	// A refusal has its status among the headers.
	status := resp.Trailer.Get("grpc-status") + resp.Header.Get("grpc-status")
	if resp.StatusCode != http.StatusOK || status != "0" {
		return fmt.Errorf("grpc.health.v1 answers %d, grpc-status %q", resp.StatusCode, status)
	}
	health, err := healthOf(body)
	if err == nil && health != serving {
		err = fmt.Errorf("grpc.health.v1 says %d, not serving", health)
	}
	return err
}

// healthOf reads the one field of a HealthCheckResponse out of its frame.
func healthOf(frame []byte) (uint64, error) {
	errMalformed := errors.New("grpc.health.v1 answers what is no HealthCheckResponse")
	if len(frame) < 5 || frame[0] != 0 || int(binary.BigEndian.Uint32(frame[1:])) != len(frame)-5 {
		return 0, errMalformed
	}
	var health uint64
	for rest := frame[5:]; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return 0, errMalformed
		}
		rest = rest[n:]
		if number == 1 && kind == protowire.VarintType {
			health, n = protowire.ConsumeVarint(rest)
		} else {
			n = protowire.ConsumeFieldValue(number, kind, rest)
		}
		if n < 0 {
			return 0, errMalformed
		}
		rest = rest[n:]
	}
	return health, nil
}
