package rpc

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/platform/localsock"
)

// sessions are the clients that have logged in. The kernel has told who they
// are when they connected; a session only names a conversation.
type sessions struct {
	mu   sync.Mutex // guards live
	live map[api.Ref]*session
}

type session struct {
	ref   api.Ref
	seen  time.Time // guarded by sessions.mu
	ended context.Context
	end   context.CancelCauseFunc
}

func (s *Server) registerSessions() {
	s.sessions.live = map[api.Ref]*session{}
	s.public("session.login_with_password", func(c *Call, _, _, _, originator string) (api.Ref, error) {
		return s.login(c.Peer, originator), nil
	})
	s.builtin("session.logout", func(c *Call) error {
		s.sessions.mu.Lock()
		defer s.sessions.mu.Unlock()
		s.drop(c.Session)
		return nil
	})
}

func invalid(ref api.Ref) *api.Error { return api.NewError(api.ErrSessionInvalid, string(ref)) }

// login makes a session. Old clients send no version and originator; see call.
func (s *Server) login(p localsock.PeerInfo, originator string) api.Ref {
	uuid, now := newUUID(), time.Now()
	ss := &session{ref: api.RefOf(uuid), seen: now}
	ss.ended, ss.end = context.WithCancelCause(context.Background())
	user := p.SID
	if user == "" {
		user = strconv.Itoa(p.UID)
	}
	s.db.Put(ss.ref, api.Session{
		UUID: uuid, ThisHost: s.opt.Host, LastActive: api.Time{Time: now}, ValidationTime: api.Time{Time: now},
		IsLocalSuperuser: true, AuthUserSID: user, AuthUserName: user, Originator: originator,
	})
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	s.expire(now)
	for len(s.sessions.live) >= s.opt.MaxSessions {
		var oldest *session
		for _, o := range s.sessions.live {
			if oldest == nil || o.seen.Before(oldest.seen) {
				oldest = o
			}
		}
		s.drop(oldest.ref)
	}
	s.sessions.live[ss.ref] = ss
	return ss.ref
}

// expire drops the sessions that have been idle for too long; sessions.mu is held.
func (s *Server) expire(now time.Time) {
	for ref, ss := range s.sessions.live {
		if now.Sub(ss.seen) > s.opt.SessionIdle {
			s.drop(ref)
		}
	}
}

// drop ends a session and what waits in its name; sessions.mu is held.
func (s *Server) drop(ref api.Ref) {
	if ss := s.sessions.live[ref]; ss != nil {
		ss.end(invalid(ref))
		delete(s.sessions.live, ref)
		s.db.Delete(api.ClassSession, ref)
	}
}

// session finds a session that still holds, and notes that it is in use.
func (s *Server) session(ref api.Ref) (*session, error) {
	now := time.Now()
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	ss := s.sessions.live[ref]
	if ss != nil && now.Sub(ss.seen) > s.opt.SessionIdle {
		s.drop(ref)
		ss = nil
	}
	if ss == nil {
		return nil, invalid(ref)
	}
	if now.Sub(ss.seen) > time.Minute { // often enough to be of use
		Modify(s.db, ref, func(r *api.Session) { r.LastActive = api.Time{Time: now} })
	}
	ss.seen = now
	return ss, nil
}
