def curves(records):
    return None
