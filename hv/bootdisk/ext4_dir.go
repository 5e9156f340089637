package bootdisk

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// each calls f for each name in a folder until f returns false.
func (fs *ext4) each(in *inode, f func(name string, number uint64) bool) error {
	switch {
	case in.kind != kindDir:
		return errMissing
	case in.flags&inodeEncrypted != 0:
		return errors.New("the folder is encrypted")
	case in.size > maxDir:
		return fmt.Errorf("%w: a folder of %d bytes", errDamaged, in.size)
	}
	if in.flags&inodeInline != 0 {
		data := in.inline()
		if len(data) < 4 { // the parent's number comes first
			return fmt.Errorf("%w: a folder", errDamaged)
		}
		_, err := eachEntry(data[4:min(len(data), 60)], f)
		if err == nil && len(data) > 60 {
			_, err = eachEntry(data[60:], f)
		}
		return err
	}
	b := make([]byte, fs.blockSize)
	for off := uint64(0); off < in.size; off += fs.blockSize {
		if err := fs.read(in, b, off); err != nil {
			return err
		}
		// The blocks of a hashed folder's index hold one empty entry each.
		if more, err := eachEntry(b, f); err != nil || !more {
			return err
		}
	}
	return nil
}

// eachEntry walks through one block of struct ext4_dir_entry_2.
func eachEntry(b []byte, f func(name string, number uint64) bool) (more bool, err error) {
	for len(b) >= 8 {
		n := int(le16(b[4:]))
		if n == 0 && len(b) < 1<<16 { // what the rest of an inline folder may look like
			return true, nil
		}
		if n == 0 || n == 0xffff { // of 64 KiB
			n = 1 << 16
		}
		length := int(b[6])
		if n < 8 || n > len(b) || 8+length > n {
			return false, fmt.Errorf("%w: a folder", errDamaged)
		}
		if number := le32(b); number != 0 && length > 0 {
			if !f(string(b[8:8+length]), uint64(number)) {
				return false, nil
			}
		}
		b = b[n:]
	}
	return true, nil
}

func (fs *ext4) lookup(dir *inode, name string) (*inode, error) {
	found := uint64(0)
	err := fs.each(dir, func(n string, number uint64) bool {
		if n == name {
			found = number
		}
		return found == 0
	})
	if err != nil {
		return nil, err
	}
	if found == 0 {
		return nil, errMissing
	}
	return fs.inode(found)
}

// find follows a path from the root, and links on it. Those that lead up or out
// end at the root of this file system.
func (fs *ext4) find(name string) (*inode, error) {
	in, err := fs.inode(ext4Root)
	if err != nil {
		return nil, err
	}
	above := []*inode{}
	for links, rest := 0, name; rest != ""; {
		var part string
		if part, rest = component(rest); part == "" || part == "." {
			continue
		}
		if part == ".." {
			if n := len(above); n > 0 {
				in, above = above[n-1], above[:n-1]
			}
			continue
		}
		next, err := fs.lookup(in, part)
		if err != nil {
			return nil, err
		}
		if next.kind != kindLink {
			above, in = append(above, in), next
			continue
		}
		if links++; links > maxLinks {
			return nil, errors.New("too many symbolic links lead to each other")
		}
		target, err := fs.target(next)
		if err != nil {
			return nil, err
		}
		if rest = strings.TrimSuffix(target+"/"+rest, "/"); len(rest) > maxPathName {
			return nil, errors.New("its symbolic links make the path too long")
		}
		if strings.HasPrefix(target, "/") {
			if len(above) > 0 {
				in, above = above[0], above[:0]
			}
		}
	}
	return in, nil
}

// target is where a symbolic link leads.
func (fs *ext4) target(in *inode) (string, error) {
	switch {
	case in.flags&inodeEncrypted != 0:
		return "", errors.New("a symbolic link on the way is encrypted")
	case in.size == 0 || in.size >= maxPathName:
		return "", fmt.Errorf("%w: a symbolic link", errDamaged)
	case in.size < 60 && in.flags&(inodeExtents|inodeInline) == 0:
		return string(in.block[:in.size]), nil
	}
	b := make([]byte, in.size)
	if err := fs.read(in, b, 0); err != nil {
		return "", err
	}
	return string(b), nil
}

func (fs *ext4) open(name string) (*File, error) {
	in, err := fs.find(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	switch {
	case in.kind != kindFile:
		return nil, fmt.Errorf("open %s: it is no file", name)
	case in.flags&inodeEncrypted != 0:
		return nil, fmt.Errorf("open %s: it is encrypted", name)
	case in.size > 1<<40:
		return nil, fmt.Errorf("open %s: %w: it has %d bytes", name, errDamaged, in.size)
	}
	return &File{
		Path: path.Clean("/" + name), Size: int64(in.size),
		readAt: func(b []byte, off uint64) error { return fs.read(in, b, off) },
		place: func() (uint64, bool) {
			disk, n, err := fs.run(in, 0)
			return disk * fs.blockSize, err == nil && in.flags&inodeInline == 0 && disk != 0 && disk < fs.blocks && n*fs.blockSize >= in.size
		},
	}, nil
}

func (fs *ext4) names(dir string) ([]string, error) {
	in, err := fs.find(dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder %s: %w", dir, err)
	}
	var out []string
	err = fs.each(in, func(name string, _ uint64) bool {
		if name != "." && name != ".." {
			out = append(out, name)
		}
		return len(out) <= maxNames
	})
	if err == nil && len(out) > maxNames {
		err = errors.New("it has too many entries")
	}
	if err != nil {
		return nil, fmt.Errorf("read the folder %s: %w", dir, err)
	}
	return out, nil
}
