package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// MaxBytes bounds one file: 100,000 grants fit.
const MaxBytes = 32 << 20

var tooLarge = fmt.Sprintf("it has more than %d MiB, the most that is read; split it, or remove it", MaxBytes>>20)

// ReadFile is os.ReadFile for a regular file of at most MaxBytes. Every error is
// an *fs.PathError that says what to do about anything else.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.Unwrap(err)} // as os.ReadFile says it
	}
	refuse := func(why string) ([]byte, error) {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New(why)}
	}
	if !info.Mode().IsRegular() {
		return refuse("it is " + kind(info.Mode()) + "; put a regular file there, or remove it")
	}
	if info.Size() > MaxBytes {
		return refuse(tooLarge)
	}
	// Should it have become a FIFO since, to open it waits for nobody.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxBytes {
		return refuse(tooLarge)
	}
	return data, nil
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case m&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}
