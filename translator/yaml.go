package translator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// YAML writes a message in the form Envoy reads, with fields in the order of
// their numbers. Every text value is quoted: a node may be called "on" or
// "007", which Envoy's YAML reader would take for a boolean or a number.
func YAML(m proto.Message) ([]byte, error) {
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err == nil {
		w := yamlWriter{json: json.NewDecoder(bytes.NewReader(data))}
		w.json.UseNumber()
		if err = w.value("\n", ""); err == nil {
			return append(bytes.TrimSpace(w.out.Bytes()), '\n'), nil
		}
	}
	return nil, fmt.Errorf("write %s as YAML: %w", m.ProtoReflect().Descriptor().Name(), err)
}

// yamlWriter rewrites JSON token by token, which keeps the order of fields.
type yamlWriter struct {
	json *json.Decoder
	out  bytes.Buffer
}

// value writes the next JSON value. The items of a mapping or a list stand
// after indent, a newline and white space; the first of them after first.
func (w *yamlWriter) value(indent, first string) error {
	token, err := w.json.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		return w.items(indent, first, " {}", w.field)
	case json.Delim('['):
		return w.items(indent, first, " []", w.element)
	}
	w.out.WriteByte(' ')
	return w.scalar(token)
}

func (w *yamlWriter) items(indent, first, none string, item func(indent string) error) error {
	if !w.json.More() {
		w.out.WriteString(none)
	}
	for ; w.json.More(); first = indent {
		w.out.WriteString(first)
		if err := item(indent); err != nil {
			return err
		}
	}
	_, err := w.json.Token() // the closing bracket
	return err
}

func (w *yamlWriter) field(indent string) error {
	key, err := w.json.Token()
	if err != nil {
		return err
	}
	name := key.(string) // JSON has no other keys
	if strings.HasPrefix(name, "@") {
		name = `"` + name + `"` // reserved in YAML
	}
	w.out.WriteString(name + ":")
	return w.value(indent+"  ", indent+"  ")
}

func (w *yamlWriter) element(indent string) error {
	w.out.WriteByte('-')
	return w.value(indent+"  ", " ")
}

// scalar writes the token as JSON, which double-quoted YAML contains.
func (w *yamlWriter) scalar(token json.Token) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	err := e.Encode(token)
	w.out.Write(bytes.TrimSpace(text.Bytes()))
	return err
}
