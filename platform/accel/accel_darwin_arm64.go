package accel

const sameProcessor = false
