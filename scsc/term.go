package scsc

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/durable"
	"github.com/dmsc-mesh/dmsc/internal/regular"
)

// NextTerm returns the term of this start and keeps it in the file at path
// before it does: one more than the last. Without a file it is the Unix time in
// seconds, which is above every term that began so and has been counted up
// since, so nodes that still hold policies of a lost term hear the new one.
func NextTerm(path string, now time.Time) (uint64, error) {
	term := uint64(now.Unix())
	data, err := regular.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, fmt.Errorf("read term: %w", err)
	default:
		last, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 63)
		if err != nil {
			return 0, fmt.Errorf("read term from %s: %q is no number; remove the file to begin from the clock", path, strings.TrimSpace(string(data)))
		}
		term = last + 1
	}
	if err := durable.Write(path, 0o600, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, term)
		return err
	}); err != nil {
		return 0, fmt.Errorf("keep term: %w", err)
	}
	return term, nil
}
