package accel

const sameProcessor = true
