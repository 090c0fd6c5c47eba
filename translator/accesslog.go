package translator

import (
	"fmt"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// AccessLog says which requests Envoy writes down, one JSON object a line. The
// zero value is none, and costs nothing.
type AccessLog struct {
	// To is "stdout" of the Envoy, or the absolute path of a file there.
	To string
	// Fabric logs what neighbours send, too, beside what clients do.
	Fabric bool
	// Sample is the share of requests that is written, and SampleErrors that of
	// errors: replies with a status of 500 and above, or from the network and not
	// a pod. In millionths. What one node writes of a request that has a request
	// id, every node does.
	Sample, SampleErrors uint32
}

// Validate reports whether Envoy can write there.
func (l AccessLog) Validate() error {
	if l.To != "" && l.To != stdout && !strings.HasPrefix(l.To, "/") {
		return fmt.Errorf("access log %q is neither %s nor an absolute path", l.To, stdout)
	}
	return nil
}

const (
	stdout       = "stdout"
	everyRequest = 1e6 // of a million
)

// accessLogs are those of a listener.
func (b *builder) accessLogs(listener string) []*accesslogv3.AccessLog {
	l := b.AccessLog
	if l.To == "" {
		return nil
	}
	format := logFormat(b.Node, listener)
	log := &accesslogv3.AccessLog{
		Name:       "dmsc/access-log",
		Filter:     logFilter(l, listener),
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: typed(&streamv3.StdoutAccessLog{AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: format}})},
	}
	if l.To != stdout {
		log.ConfigType = &accesslogv3.AccessLog_TypedConfig{TypedConfig: typed(&filev3.FileAccessLog{
			Path:            l.To,
			AccessLogFormat: &filev3.FileAccessLog_LogFormat{LogFormat: format},
		})}
	}
	return []*accesslogv3.AccessLog{log}
}

// logFilter lets a share of all requests pass, and another of the errors; of the
// probes of neighbours, which come up to twenty times a second, nothing.
func logFilter(l AccessLog, listener string) *accesslogv3.AccessLogFilter {
	share := shareFilter(l)
	switch {
	case listener != fabricName:
		return share
	case share == nil:
		return noProbe()
	}
	return both(noProbe(), share)
}

func shareFilter(l AccessLog) *accesslogv3.AccessLogFilter {
	if l.Sample == everyRequest {
		return nil
	}
	errors := cel("response.code >= 500 || response.flags != 0 || '" + headerError + "' in response.headers")
	return either(
		sampled("dmsc.access_log.sample", l.Sample),
		both(errors, sampled("dmsc.access_log.sample_errors", l.SampleErrors)),
	)
}

// logFormat is what a line has. What is absent or empty is left out. Clients
// choose some of the values, so those are cut, and a query, in which there may
// be secrets, is not written.
func logFormat(node dmsc.NodeID, listener string) *corev3.SubstitutionFormatString {
	line := map[string]any{
		"time":     "%START_TIME%",
		"node":     string(node),
		"listener": strings.TrimPrefix(listener, "dmsc/"),

		// Whose request it is.
		"peer":       "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
		"request_id": "%REQ(X-REQUEST-ID):64%",
		"protocol":   "%PROTOCOL%",
		"method":     "%REQ(:METHOD):32%",
		"authority":  "%REQ(:AUTHORITY):255%",
		"url_path":   "%PATH(NQ):1024%",

		// Where the network took it: as the request left this node.
		"prefix":   "%REQ(DMSC-SERVICE-PREFIX):255%",
		"via":      "%CEL(request.headers['" + headerVia + "']):1024%",
		"path":     "%REQ(DMSC-PATH):1100%",
		"instance": "%REQ(DMSC-INSTANCE):255%",
		"cluster":  "%UPSTREAM_CLUSTER%",
		"upstream": "%UPSTREAM_HOST%",
		"attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",

		// What became of it.
		"status":          "%RESPONSE_CODE%",
		"error":           "%RESP(DMSC-ERROR):128%",
		"flags":           "%RESPONSE_FLAGS%",
		"details":         "%RESPONSE_CODE_DETAILS%",
		"failure":         "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
		"grpc_status":     "%GRPC_STATUS_NUMBER%",
		"received_bytes":  "%BYTES_RECEIVED%",
		"sent_bytes":      "%BYTES_SENT%",
		"duration_us":     "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
		"request_us":      "%COMMON_DURATION(DS_RX_BEG:DS_RX_END:us)%",
		"first_answer_us": "%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)%",
	}
	fields, err := structpb.NewStruct(line)
	if err != nil {
		panic(err) // there is nothing but text in it
	}
	return &corev3.SubstitutionFormatString{
		Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: fields},
		OmitEmptyValues: true,
	}
}
