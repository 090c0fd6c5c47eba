package scsc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// NextTerm returns the term of this start and keeps it in the file at path
// before it does: one more than the last. Without a file it is the Unix time in
// seconds, which is above every term that began so and has been counted up
// since, so nodes that still hold policies of a lost term hear the new one.
func NextTerm(path string, now time.Time) (uint64, error) {
	term := uint64(now.Unix())
	data, err := os.ReadFile(path)
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
	if err := writeWhole(path, strconv.FormatUint(term, 10)+"\n"); err != nil {
		return 0, fmt.Errorf("keep term: %w", err)
	}
	return term, nil
}

// writeWhole replaces a file so that a crash leaves the old or the new text.
func writeWhole(path, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
