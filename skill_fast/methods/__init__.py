"""Methods by name, each one flat file."""

from skill_fast.methods.skill import Skill

METHODS = {"skill": Skill}

__all__ = ["METHODS", "Skill"]
